// @vitest-environment happy-dom
import { readFileSync } from 'node:fs'
import { act } from 'react'
import { createRoot } from 'react-dom/client'
import { afterEach, expect, test, vi } from 'vitest'
import { FakeSocket, room, snapshot, subscribed, voice, welcome } from './world.js'

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean
}

const read = (path: string) => readFileSync(new URL(path, `file://${__dirname}/`), 'utf8')

afterEach(() => vi.unstubAllGlobals())

test('the five lines of the readme are these, and they work', async () => {
  const lines = read('five-lines.tsx').trim()
  expect(lines.split('\n')).toHaveLength(5)
  expect(read('../README.md')).toContain(lines)
  expect(read('../../../README.md')).toContain(lines)

  globalThis.IS_REACT_ACT_ENVIRONMENT = true
  const sockets: FakeSocket[] = []
  const asked: string[] = []
  vi.stubGlobal('fetch', async (url: string) => {
    asked.push(url)
    // The app's server fails once: its page is no token.
    return asked.length === 1 ? new Response('<h1>Sorry</h1>', { status: 502 }) : new Response('a-token')
  })
  vi.stubGlobal(
    'WebSocket',
    class extends FakeSocket {
      constructor(url: string) {
        super(url)
        sockets.push(this)
      }
    },
  )
  const { default: App } = await import('./five-lines.js')
  const page = document.createElement('div')
  const root = createRoot(page)
  await act(async () => root.render(<App />))
  await vi.waitFor(() => expect(sockets).toHaveLength(1), { timeout: 3_000 })
  const [socket] = sockets
  await act(async () => {
    socket?.open()
    socket?.receive(welcome())
    socket?.receive(subscribed())
    socket?.receive(snapshot([room('11', [voice('11', '7')]), room('12')]))
  })
  const token = 'http://127.0.0.1:3901/token?sub=ada'
  expect(asked).toEqual([token, token])
  expect(socket?.url).toBe('ws://127.0.0.1:3000/api/ws')
  expect(page.textContent).toBe('Room 11: 1Room 12: 0')
  await act(async () => root.unmount())
  expect(socket?.closed).toBe(true)
})
