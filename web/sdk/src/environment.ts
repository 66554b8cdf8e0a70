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
  /**
   * Calls back whenever the page may have slept, or may have a network again (`online`, back in sight, thawed); the
   * answer ends that.
   */
  readonly onWake: (call: () => void) => () => void
  /** Calls back when the page is about to go (`pagehide`), while there is time to store something; the answer ends that. */
  readonly onHide: (call: () => void) => () => void
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
    const ends = [
      heed(window, 'online', call),
      heed(window, 'pageshow', call),
      heed(document, 'resume', call),
      heed(document, 'visibilitychange', seen),
    ]
    return () => {
      for (const end of ends) end()
    }
  },
  onHide: call => (typeof window === 'undefined' ? () => {} : heed(window, 'pagehide', call)),
  report: error => reportError(error),
}

function heed(target: EventTarget, event: string, call: () => void): () => void {
  target.addEventListener(event, call)
  return () => target.removeEventListener(event, call)
}
