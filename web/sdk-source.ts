import { fileURLToPath } from 'node:url'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The SDK's source in place of its build, for the console and for tests: they need no build of the SDK. */
export const sdkSource = {
  '@roomwire/sdk/react': file('sdk/src/react/index.ts'),
  '@roomwire/sdk': file('sdk/src/index.ts'),
}
