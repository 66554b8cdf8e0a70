/** One WebSocket: opens, sends the auth frame, checks that the hub answers, ends exactly once. */
import type { CloseHints } from './close-codes.js'
import type { Environment } from './environment.js'
import { type Frame, readFrame } from './frames.js'
import type { ClientFrame, Correlation } from './wire/index.js'

/** How long a connection waits for the hub, milliseconds. */
export interface Timeouts {
  /** From the attempt until `auth.ok`. 1,000 to 120,000; default 15,000. */
  readonly connectMs: number
  /** After this time without a frame, the page sends a `ping`. 1,000 to 600,000; default 25,000. */
  readonly quietMs: number
  /** After a `ping`, a frame must arrive within this time. 1,000 to 120,000; default 10,000. */
  readonly pongMs: number
}

/** In a hidden page, timers run up to a minute late. If they are later, the machine was asleep. Milliseconds. */
const timersLateMs = 60_000

export const defaultTimeouts: Timeouts = { connectMs: 15_000, quietMs: 25_000, pongMs: 10_000 }

/** Callbacks of a socket. */
export interface SocketEvents {
  readonly onFrame: (frame: Frame) => void
  /** Called once, last. `code` is 1006 if no Close frame arrived. */
  readonly onEnd: (end: SocketEnd) => void
}

/** How a socket ended. */
export interface SocketEnd {
  readonly code: number
  /** The reason of the hub, or of this page. */
  readonly reason: string
  readonly hints: CloseHints
  /** The error frame right before the end. */
  readonly error: Extract<Frame, { kind: 'error' }> | undefined
  /** The handshake succeeded. */
  readonly opened: boolean
}

/** An open or opening connection. */
export interface Socket {
  /** Sends a frame; does nothing before the connection is open or after its end. */
  readonly send: (frame: ClientFrame & { id?: Correlation }) => void
  /** Sends a `ping` now. */
  readonly probe: () => void
  /** Ends it without a callback. */
  readonly close: () => void
}

/** Connects, and sends `authFrame` first. */
export function openSocket(
  url: string,
  authFrame: ClientFrame,
  timeouts: Timeouts,
  environment: Environment,
  events: SocketEvents,
): Socket {
  let reconnectAfterMs: number | undefined
  let retryAfterMs: number | undefined
  let error: SocketEnd['error']
  let opened = false
  let authenticated = false
  let ended = false
  let receivedAt = 0
  const ws = environment.openWebSocket(url)
  let cancel = environment.after(timeouts.connectMs, () => giveUp('no answer in time'))

  ws.onopen = () => {
    opened = true
    ws.send(JSON.stringify(authFrame))
  }
  ws.onmessage = message => {
    const frame = readFrame(message.data)
    // Every message proves that the hub answers, also one that cannot be parsed.
    if (authenticated) onReceived()
    if (!frame) return
    if (frame.kind === 'draining') reconnectAfterMs = frame.reconnectAfterMs
    if (frame.kind === 'error') retryAfterMs = frame.retryAfterMs
    // Only the last frame before a close explains it.
    error = frame.kind === 'error' ? frame : undefined
    if (frame.kind === 'auth.ok') {
      authenticated = true
      onReceived()
    }
    events.onFrame(frame)
  }
  ws.onclose = close => end(close.code, close.reason)
  // A close event follows every error event.
  ws.onerror = () => {}

  function onReceived() {
    receivedAt = environment.now()
    cancel()
    cancel = environment.after(timeouts.quietMs, probe)
  }

  function probe() {
    if (!authenticated || ended) return
    // The page shows its rooms as live until the end. So a connection that slept ends at once.
    if (environment.now() - receivedAt > timeouts.quietMs + timeouts.pongMs + timersLateMs) {
      return giveUp('no answer to a ping')
    }
    cancel()
    send({ type: 'ping' })
    cancel = environment.after(timeouts.pongMs, () => giveUp('no answer to a ping'))
  }

  function send(frame: ClientFrame & { id?: Correlation }) {
    if (opened && !ended) ws.send(JSON.stringify(frame))
  }

  /** A dead network reports its close late or never, so the page ends the socket itself. */
  function giveUp(reason: string) {
    closeSocket()
    end(1006, reason)
  }

  function closeSocket() {
    ws.onopen = ws.onmessage = ws.onclose = null
    ws.close(1000)
  }

  function end(code: number, reason: string) {
    if (ended) return
    ended = true
    cancel()
    events.onEnd({ code, reason, hints: { reconnectAfterMs, retryAfterMs }, error, opened })
  }

  function close() {
    if (ended) return
    ended = true
    cancel()
    closeSocket()
  }

  return { send, probe, close }
}
