import type { FailureReport } from './failure.js'

/** What the SDK needs from the runtime; tests replace it. */
export interface Environment {
  /** Opens a WebSocket. */
  readonly openWebSocket: (url: string) => WebSocketLike
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>
  /** Wall clock, milliseconds since 1970. */
  readonly now: () => number
  /** A number in [0, 1). */
  readonly random: () => number
  /** Calls `call` once after `ms`; the returned function cancels it. */
  readonly after: (ms: number, call: () => void) => () => void
  /**
   * Calls `call` whenever the page may have slept, or may have a network again: `online`, visible, resumed. The returned
   * function ends that.
   */
  readonly onWake: (call: () => void) => () => void
  /** Calls `call` before the page is unloaded (`pagehide`), in time to store something; the returned function ends that. */
  readonly onHide: (call: () => void) => () => void
  /** Reports what a listener of the page threw. */
  readonly report: (error: unknown) => void
  /**
   * Warns the developer of a likely mistake, and how to correct it; silent in production. `NODE_ENV` decides. Without
   * it, development is Node, and a page whose host is this machine.
   */
  readonly warn: (text: string, cause?: unknown) => void
  /** Opens a link in a new tab, or in this one if the browser allows no other; does nothing without a page. */
  readonly openLink: (url: string) => void
  /** The page's origin, the text `null` if it has none; `undefined` without a page. */
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

/** `openWebSocket` throws it if the runtime has no `WebSocket`. */
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

/** The environment of browsers, Node, Deno, Bun and React Native. Node 20 has no `WebSocket`. */
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
    const ifVisible = () => {
      if (document.visibilityState === 'visible') call()
    }
    const ends = [
      addListener(window, 'online', call),
      addListener(window, 'pageshow', call),
      addListener(document, 'resume', call),
      addListener(document, 'visibilitychange', ifVisible),
    ]
    return () => {
      for (const end of ends) end()
    }
  },
  onHide: call => (isPage() ? addListener(window, 'pagehide', call) : () => {}),
  report: error => {
    if (typeof reportError === 'function') return reportError(error)
    // Node and older browsers have no `reportError`. Node's EventTarget rethrows the error of a listener in this way.
    setTimeout(() => {
      throw error
    })
  },
  warn: (text, ...cause) => {
    // biome-ignore lint/suspicious/noConsole: warnings belong in the console
    if (isDevelopment()) console.warn(text, ...cause)
  },
  openLink: url => {
    if (!isPage()) return
    // With `noopener`, `open` returns `null` also on success, so a blocked tab would go unnoticed.
    const opened = window.open(url, '_blank')
    if (opened) opened.opener = null
    else location.assign(url)
  },
  pageOrigin: () => (typeof location === 'undefined' ? undefined : location.origin),
}

/** Whether this is a browser's page. React Native has a `window` without events, and no `document`. */
function isPage(): boolean {
  return typeof window !== 'undefined' && typeof document !== 'undefined'
}

/** Bundlers replace `process.env.NODE_ENV`, exactly as it is written below. */
declare const process: { readonly env: { readonly NODE_ENV?: string } }

/** Whether this page or program is in development; see `Environment.warn`. */
function isDevelopment(): boolean {
  const mode = nodeEnv()
  if (mode) return mode !== 'production'
  const hostname = globalThis.location?.hostname
  // A page whose host is this machine is in development.
  if (hostname !== undefined) return /^(localhost|127\.0\.0\.1|\[::1\]|.*\.localhost)$/.test(hostname)
  return isNode()
}

/** `NODE_ENV`; `undefined` if neither a bundler nor Node sets it, also if `process` is a shim. */
function nodeEnv(): string | undefined {
  try {
    return process.env.NODE_ENV
  } catch {
    return undefined
  }
}

/** Whether this is Node. Some bundlers add a shim if a program names `process`. */
function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: unknown } } }
  return typeof process?.versions?.node === 'string'
}

function addListener(target: EventTarget, event: string, call: () => void): () => void {
  target.addEventListener(event, call)
  return () => target.removeEventListener(event, call)
}
