/** What the SDK takes from the world around it; tests put their own here. */
export interface Environment {
  /** Opens a WebSocket. */
  readonly openWebSocket: (url: string) => WebSocketLike
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>
  /** Wall clock, milliseconds since 1970. */
  readonly now: () => number
  /** A number in [0, 1). */
  readonly random: () => number
  /** Calls back once after `ms`; the answer calls it off. */
  readonly after: (ms: number, call: () => void) => () => void
  /** Calls back whenever the page may have a network again (`online`, or back in sight); the answer ends that. */
  readonly onWake: (call: () => void) => () => void
  /** Takes what a listener of the page threw. */
  readonly report: (error: unknown) => void
}

/** The part of `WebSocket` that the SDK uses. */
export interface WebSocketLike {
  send(text: string): void
  close(code?: number, reason?: string): void
  onopen: (() => void) | null
  onmessage: ((message: { data: unknown }) => void) | null
  onclose: ((close: { code: number; reason: string }) => void) | null
  onerror: (() => void) | null
}

/** The browser's own; also fits Node ≥ 22, Deno and Bun. */
export const browserEnvironment: Environment = {
  openWebSocket: url => new WebSocket(url) as WebSocketLike,
  fetch: (url, init) => fetch(url, init),
  now: () => Date.now(),
  random: () => Math.random(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
  onWake: call => {
    if (typeof window === 'undefined' || typeof document === 'undefined') return () => {}
    const seen = () => {
      if (document.visibilityState === 'visible') call()
    }
    window.addEventListener('online', call)
    document.addEventListener('visibilitychange', seen)
    return () => {
      window.removeEventListener('online', call)
      document.removeEventListener('visibilitychange', seen)
    }
  },
  report: error => reportError(error),
}
