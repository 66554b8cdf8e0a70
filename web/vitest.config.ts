import { defineConfig } from 'vitest/config'

const source = ['roomwire-source']

export default defineConfig({
  resolve: { conditions: [...source, 'module', 'browser', 'development|production'] },
  ssr: { resolve: { conditions: [...source, 'module', 'node', 'development|production'] } },
  test: {
    include: ['sdk/test/**/*.test.{ts,tsx}', 'console/test/**/*.test.{ts,tsx}'],
    // Two workers: the tests share their machine with cargo.
    maxWorkers: 2,
  },
})
