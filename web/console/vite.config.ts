import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'
import { sdkSource } from '../sdk-source.js'

export default defineConfig({
  plugins: [react()],
  resolve: { alias: sdkSource },
  build: {
    outDir: 'dist',
    // The hub embeds every file of `dist` and serves it under `default-src 'self'`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
