import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { browserEnvironment } from '../src/environment.js'
import { createRoomwire } from '../src/index.js'
import { World } from './world.js'

/** Names that Node 20, React Native or a browser of 2021 lacks. */
const lacking = ['reportError', 'WebSocket', 'document', 'navigator', 'structuredClone', 'queueMicrotask']

beforeEach(() => {
  for (const name of lacking) vi.stubGlobal(name, undefined)
})
afterEach(() => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

const roomwire = (options: object = {}) =>
  createRoomwire({ url: 'https://hub.example', getToken: async () => 'token', ...options })

test('a listener that throws where reportError is missing is uncaught with its own error', () => {
  vi.useFakeTimers()
  const page = roomwire()
  const received: string[] = []
  page.onChange(() => {
    throw new Error('mine')
  })
  page.onChange(() => received.push(page.getState().connection.state))
  page.connect()
  expect(received).toEqual(['connecting'])
  expect(() => vi.runOnlyPendingTimers()).toThrow('mine')
  page.close()
})

test('a listener that throws where reportError exists is given to it', () => {
  const reported: unknown[] = []
  vi.stubGlobal('reportError', (error: unknown) => reported.push(error))
  browserEnvironment.report('mine')
  expect(reported).toEqual(['mine'])
})

test('a runtime without WebSocket is named in the state, with the cure', async () => {
  const page = roomwire()
  page.connect()
  await vi.waitFor(() => expect(page.getState().connection.state).toBe('closed'))
  expect(page.getState().connection).toMatchObject({
    reason: {
      code: null,
      failure: 'websocket_missing',
      text: expect.stringMatching(/no WebSocket/),
      hint: expect.stringMatching(/Use Node 22/),
    },
  })
})

test('a window without events, as in React Native, is no page', () => {
  vi.stubGlobal('window', globalThis)
  const page = roomwire({ persist: { getItem: () => null, setItem: () => {}, removeItem: () => {} } })
  page.connect()
  page.close()
  expect(page.getState().connection).toEqual({ state: 'closed', reason: null })
})

test('a signal that lacks throwIfAborted ends a command with its reason', async () => {
  const world = new World()
  world.answer = () => new Promise(() => {})
  const page = roomwire({ environment: world.environment })
  const end = new AbortController()
  Object.defineProperty(end.signal, 'throwIfAborted', { value: undefined })
  const command = page.createRoom({}, { signal: end.signal })
  end.abort(new Error('changed my mind'))
  await expect(command).rejects.toThrow('changed my mind')
  await expect(page.createRoom({}, { signal: end.signal })).rejects.toThrow('changed my mind')
})
