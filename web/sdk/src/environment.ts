import type { FailureReport } from './failure.js'

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
  /**
   * Says to the developer what is likely wrong, and how to cure it; silent in production. Production is where
   * `NODE_ENV` is `production`. Without `NODE_ENV`, it is every page whose host is not this machine, and every runtime
   * that has no page and is not Node. Node without `NODE_ENV` is development.
   */
  readonly warn: (text: string, cause?: unknown) => void
  /** The page's origin, `null` as a text if it has none; `undefined` where no page is. */
  readonly pageOrigin: () => string | undefined
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

/** What `openWebSocket` throws where the runtime has no `WebSocket`. */
export class WebSocketMissing extends Error {
  readonly report: FailureReport = {
    failure: 'websocket_missing',
    text: 'this runtime has no WebSocket',
    hint: 'Use Node 22 or newer, or set globalThis.WebSocket to that of the package "ws".',
  }

  constructor() {
    super('This runtime has no WebSocket.')
    this.name = 'WebSocketMissing'
  }
}

/** The browser's own; also fits Node, Deno, Bun and React Native. Node 20 has no `WebSocket`. */
export const browserEnvironment: Environment = {
  openWebSocket: url => {
    if (typeof WebSocket === 'undefined') throw new WebSocketMissing()
    return new WebSocket(url) as WebSocketLike
  },
  fetch: (url, init) => fetch(url, init),
  now: () => Date.now(),
  random: () => Math.random(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
  onWake: call => {
    if (!isPage()) return () => {}
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
  onHide: call => (isPage() ? heed(window, 'pagehide', call) : () => {}),
  report: error => {
    if (typeof reportError === 'function') return reportError(error)
    // Node and older browsers have no `reportError`. Node's own EventTarget rethrows a listener's error in this way.
    setTimeout(() => {
      throw error
    })
  },
  warn: (text, ...cause) => {
    // biome-ignore lint/suspicious/noConsole: this is what it is for
    if (isDevelopment()) console.warn(text, ...cause)
  },
  pageOrigin: () => (typeof location === 'undefined' ? undefined : location.origin),
}

/** Whether this is a browser's page. React Native has a `window` without events, and no `document`. */
function isPage(): boolean {
  return typeof window !== 'undefined' && typeof document !== 'undefined'
}

/** What bundlers put in the place of `process.env.NODE_ENV`, exactly as it is written below. */
declare const process: { readonly env: { readonly NODE_ENV?: string } }

/** Whether somebody works on this page or program; see `Environment.warn`. */
function isDevelopment(): boolean {
  const mode = nodeEnv()
  if (mode) return mode !== 'production'
  const hostname = globalThis.location?.hostname
  // A page from this very machine is one that somebody works on.
  if (hostname !== undefined) return /^(localhost|127\.0\.0\.1|\[::1\]|.*\.localhost)$/.test(hostname)
  return isNode()
}

/** `NODE_ENV`; `undefined` without a bundler that replaces it and without Node, also where `process` is a shim. */
function nodeEnv(): string | undefined {
  try {
    return process.env.NODE_ENV
  } catch {
    return undefined
  }
}

/** Whether this is Node. Some bundlers add a shim where a program names `process` by itself. */
function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: unknown } } }
  return typeof process?.versions?.node === 'string'
}

function heed(target: EventTarget, event: string, call: () => void): () => void {
  target.addEventListener(event, call)
  return () => target.removeEventListener(event, call)
}
