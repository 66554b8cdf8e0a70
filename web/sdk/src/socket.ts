/** One WebSocket's life: open, say who is there, watch that it lives, end exactly once. */
import type { CloseHints } from './close-codes.js'
import type { Environment } from './environment.js'
import { type Frame, readFrame } from './frames.js'
import type { ClientFrame, Correlation } from './wire/index.js'

/** How patient a connection is; milliseconds. */
export interface Patience {
  /** From the attempt until `auth.ok`. 1,000 to 120,000; default 15,000. */
  readonly connectMs: number
  /** A connection on which nothing came for so long is asked for a `pong`. 1,000 to 600,000; default 25,000. */
  readonly quietMs: number
  /** A `pong`, or anything else, must come within this. 1,000 to 120,000; default 10,000. */
  readonly pongMs: number
}

/** In a page out of sight, timers run up to a minute late; a page that is later than that was asleep. Milliseconds. */
const timersLateMs = 60_000

export const defaultPatience: Patience = { connectMs: 15_000, quietMs: 25_000, pongMs: 10_000 }

/** Who is told of a socket's life. */
export interface SocketEvents {
  readonly onFrame: (frame: Frame) => void
  /** Called once, last. `code` is 1006 for an end that the hub did not announce. */
  readonly onEnd: (end: SocketEnd) => void
}

/** How a socket ended. */
export interface SocketEnd {
  readonly code: number
  /** The hub's words, or ours. */
  readonly reason: string
  readonly hints: CloseHints
  /** The error frame right before the end. */
  readonly error: Extract<Frame, { kind: 'error' }> | undefined
  /** The handshake succeeded. */
  readonly opened: boolean
}

/** An open or opening connection. */
export interface Socket {
  /** Says something; nothing happens before the connection is open or after its end. */
  readonly say: (frame: ClientFrame & { id?: Correlation }) => void
  /** Asks for a sign of life now. */
  readonly probe: () => void
  /** Ends it without telling anybody. */
  readonly close: () => void
}

/** Connects, and speaks first: `hello` is the auth frame. */
export function openSocket(
  url: string,
  hello: ClientFrame,
  patience: Patience,
  environment: Environment,
  events: SocketEvents,
): Socket {
  let reconnectAfterMs: number | undefined
  let retryAfterMs: number | undefined
  let error: SocketEnd['error']
  let opened = false
  let welcomed = false
  let ended = false
  let heardAt = 0
  const ws = environment.openWebSocket(url)
  let callOff = environment.after(patience.connectMs, () => giveUp('no answer in time'))

  ws.onopen = () => {
    opened = true
    ws.send(JSON.stringify(hello))
  }
  ws.onmessage = message => {
    const frame = readFrame(message.data)
    // Anything from the hub is a sign of life, also what is not understood.
    if (welcomed) listen()
    if (!frame) return
    if (frame.kind === 'draining') reconnectAfterMs = frame.reconnectAfterMs
    if (frame.kind === 'error') retryAfterMs = frame.retryAfterMs
    // Only the frame right before a close explains it.
    error = frame.kind === 'error' ? frame : undefined
    if (frame.kind === 'auth.ok') {
      welcomed = true
      listen()
    }
    events.onFrame(frame)
  }
  ws.onclose = close => end(close.code, close.reason)
  // A close follows every error.
  ws.onerror = () => {}

  function listen() {
    heardAt = environment.now()
    callOff()
    callOff = environment.after(patience.quietMs, probe)
  }

  function probe() {
    if (!welcomed || ended) return
    // What is on the page passes for live until the end: no time is lost on a connection that slept.
    if (environment.now() - heardAt > patience.quietMs + patience.pongMs + timersLateMs) {
      return giveUp('no sign of life')
    }
    callOff()
    say({ type: 'ping' })
    callOff = environment.after(patience.pongMs, () => giveUp('no sign of life'))
  }

  function say(frame: ClientFrame & { id?: Correlation }) {
    if (opened && !ended) ws.send(JSON.stringify(frame))
  }

  /** A dead network reports its close late or never: the end is declared here. */
  function giveUp(reason: string) {
    hangUp()
    end(1006, reason)
  }

  function hangUp() {
    ws.onopen = ws.onmessage = ws.onclose = null
    ws.close(1000)
  }

  function end(code: number, reason: string) {
    if (ended) return
    ended = true
    callOff()
    events.onEnd({ code, reason, hints: { reconnectAfterMs, retryAfterMs }, error, opened })
  }

  function close() {
    if (ended) return
    ended = true
    callOff()
    hangUp()
  }

  return { say, probe, close }
}
