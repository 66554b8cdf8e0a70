/** When the SDK speaks to the developer, and when it is silent. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { browserEnvironment } from '../src/environment.js'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** What `console.warn` gets in a world without `process`, such as a page without a bundler. */
function warnedOn(hostname: string | undefined, shim?: object): unknown[][] {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  const { process, location } = globalThis
  const put = (name: string, value: unknown) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
  put('process', shim)
  put('location', hostname === undefined ? undefined : { hostname })
  try {
    browserEnvironment.warn('a cause and its cure')
  } finally {
    put('process', process)
    put('location', location)
  }
  return warn.mock.calls
}

describe('a warning', () => {
  test('is given in development, with the cause if one exists', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    const cause = new Error('no session')
    vi.stubEnv('NODE_ENV', 'development')
    browserEnvironment.warn('first')
    browserEnvironment.warn('second', cause)
    expect(warn.mock.calls).toEqual([['first'], ['second', cause]])
  })

  test('is not given in production', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    vi.stubEnv('NODE_ENV', 'production')
    browserEnvironment.warn('first')
    expect(warn).not.toHaveBeenCalled()
  })

  test.each(['localhost', '127.0.0.1', '[::1]', 'app.localhost'])(
    'is given on %s to a page without a bundler',
    hostname => {
      expect(warnedOn(hostname)).toEqual([['a cause and its cure']])
    },
  )

  const shims = [{}, { env: {} }, { env: { NODE_ENV: '' } }, { env: {}, versions: { node: '22.0.0' } }]

  test.each(shims)('depends on the host of a page where process is the shim %j', shim => {
    expect(warnedOn('app.example', shim)).toEqual([])
    expect(warnedOn('localhost', shim)).toHaveLength(1)
  })

  test('is given in Node without NODE_ENV, and not in other runtimes without a page', () => {
    expect(warnedOn(undefined, { env: {}, versions: { node: '22.0.0' } })).toHaveLength(1)
    vi.restoreAllMocks()
    expect(warnedOn(undefined, { env: {} })).toEqual([])
  })

  test('is not given to a page on localhost that a bundler built for production', () => {
    expect(warnedOn('localhost', { env: { NODE_ENV: 'production' } })).toEqual([])
  })

  test.each(['app.example', 'localhost.example', undefined])(
    'is not given on %s to a page without a bundler',
    hostname => {
      expect(warnedOn(hostname)).toEqual([])
    },
  )
})
