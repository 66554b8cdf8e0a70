import { defineConfig } from 'vite'
import { sdkSource } from '../sdk-source.js'

/** The SDK as one file, which the hub serves at `/sdk.js`: for pages without a bundler. */
export default defineConfig({
  build: {
    outDir: 'dist',
    emptyOutDir: false,
    lib: { entry: sdkSource['@roomwire/sdk'], formats: ['es'], fileName: () => 'sdk.js' },
  },
})
