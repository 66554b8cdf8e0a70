import { defineConfig } from 'vitest/config'
import { sdkSource } from './sdk-source.js'

export default defineConfig({
  resolve: { alias: sdkSource },
  test: {
    include: ['sdk/test/**/*.test.{ts,tsx}', 'console/test/**/*.test.{ts,tsx}'],
    // Two workers: the tests share their machine with cargo.
    maxWorkers: 2,
  },
})
