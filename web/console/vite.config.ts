import react from '@vitejs/plugin-react'
import { defaultClientConditions, defineConfig } from 'vite'

export default defineConfig({
  plugins: [react()],
  // The console is built from the SDK's source, so that it needs no earlier build.
  resolve: { conditions: ['roomwire-source', ...defaultClientConditions] },
  build: {
    outDir: 'dist',
    // The hub embeds every file of `dist` and serves it under `default-src 'self'`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
