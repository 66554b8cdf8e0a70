import { defineConfig } from '@playwright/test'

export default defineConfig({
  testDir: '.',
  // Pictures for the documents are made when they are asked for; they are no test.
  testIgnore: process.env.SCREENSHOTS === '1' ? [] : ['pictures.test.ts'],
  outputDir: '../test-results',
  // One system, watched by one browser at a time.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  reporter: [['list']],
  use: {
    baseURL: process.env.ROOMWIRE_URL ?? 'http://127.0.0.1:3000',
    viewport: { width: 1280, height: 800 },
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    },
  },
})
