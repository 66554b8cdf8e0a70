/**
 * The connection to a hub over reconnects: one socket after the other, each with a valid token. It decides when to
 * reconnect and when to stop. It does not look into guilds.
 */

import { authFrameBytesMin, tokenBytesMax } from './auth-frame.js'
import { type Backoff, fullJitter } from './backoff.js'
import { adviceOf, forbidden, waitAfter } from './close-codes.js'
import { type Diagnosis, insecure } from './diagnosis.js'
import { type Environment, WebSocketMissing } from './environment.js'
import { type FailureReport, failureOfClose } from './failure.js'
import type { Frame } from './frames.js'
import { openSocket, type Socket, type SocketEnd, type Timeouts } from './socket.js'
import { late, refusedToken, TokenFailure, type TokenSource, type TokenWish, tooLargeToken } from './token.js'
import type { ClientFrame, Correlation } from './wire/index.js'

/** Why there is no connection. */
export interface ConnectionEnd extends FailureReport {
  /** The close code; `null` if no socket was opened, for lack of a token. */
  readonly code: number | null
}

/** The connection to the hub. Times are by this machine's clock, milliseconds since 1970. */
export type Connection =
  | { readonly state: 'connecting' }
  | { readonly state: 'open'; readonly connectionId: string; readonly sub: string }
  | { readonly state: 'waiting'; readonly reason: ConnectionEnd; readonly nextAttemptAt: number }
  /** Until `connect()`. `reason` is `null` if the page closed it. */
  | { readonly state: 'closed'; readonly reason: ConnectionEnd | null }

type AuthOk = Extract<Frame, { kind: 'auth.ok' }>

/** Parts and callbacks of the connection. */
export interface HubConnectionParts {
  /** The WebSocket's address. */
  readonly url: string
  readonly tokens: TokenSource
  /** Finds out why the hub cannot be reached. */
  readonly diagnosis: Diagnosis
  /** The most bytes that the hub accepts as a first frame. */
  readonly firstFrameBytesMax: number
  readonly backoff: Backoff
  readonly timeouts: Timeouts
  readonly environment: Environment
  /** The first frame of a connection. */
  readonly authFrame: (token: string) => ClientFrame
  /** Called when the hub forbids the first frame; returns whether the next one with that token names fewer guilds. */
  readonly onForbidden: () => boolean
  readonly onState: (connection: Connection) => void
  /** Called after `onState` with `open`. */
  readonly onAuthOk: (authOk: AuthOk) => void
  /** Called for every frame after `auth.ok`. */
  readonly onFrame: (frame: Frame) => void
  /** Called when the app gave no token to renew with. The connection stays open until its token expires. */
  readonly onRenewalFailed: (report: FailureReport) => void
}

export interface HubConnection {
  /** Connects. While it waits, it tries at once. */
  readonly connect: () => void
  /** Disconnects, and does not reconnect. */
  readonly close: () => void
  /** Ends this socket, as a lost network does, and reconnects with jitter. */
  readonly drop: (why: string) => void
  /** Replaces a socket that is open or opening, at once, with a new token of the app. */
  readonly restart: () => void
  /** Sends a frame if the connection is open. */
  readonly send: (frame: ClientFrame & { id?: Correlation }) => void
}

/** A connection that was open for this long resets the backoff, milliseconds. */
const steadyMs = 10_000
/** A token is renewed this long before it expires, or after three quarters of a short life; milliseconds. */
const renewBeforeMs = 60_000
/** The shortest time between two renewals, milliseconds. */
const renewMsMin = 1_000
/** The longest time that a timer can wait, milliseconds. */
const timerMsMax = 2 ** 31 - 1

export function createHubConnection(parts: HubConnectionParts): HubConnection {
  const { backoff, environment, timeouts, tokens } = parts
  let connection: Connection = { state: 'closed', reason: null }
  /** Counts attempts, so that a late answer to an earlier attempt is dropped. */
  let generation = 0
  let attempt = 0
  let socket: Socket | null = null
  let retriesOnWake = false
  /** Which token the next attempt needs. */
  let nextWish: TokenWish = 'connect'
  let renewalsFailed = 0
  let renewing: string | null = null
  /** The token of the first frame. */
  let offered = ''
  /** The diagnosis why the hub cannot be reached; valid until a connection is open. */
  let diagnosed: FailureReport | null = null
  let cancelAttempt = () => {}
  let cancelRenewal = () => {}
  let cancelSteady = () => {}
  let endWake: (() => void) | null = null

  function connect() {
    if (connection.state === 'connecting' || connection.state === 'open') return
    if (connection.state === 'closed') attempt = 0
    endWake ??= environment.onWake(wake)
    void attemptWith(nextWish)
  }

  function close() {
    // Another person may connect next, whose token was not refused.
    nextWish = 'connect'
    stop({ state: 'closed', reason: null })
  }

  function drop(why: string) {
    const hints = { reconnectAfterMs: undefined, retryAfterMs: undefined }
    onEnd({ code: 1006, reason: why, hints, error: undefined, opened: true })
  }

  function restart() {
    tokens.forget()
    // Without a socket, no token is in use.
    if (socket) void attemptWith('connect')
  }

  function send(frame: ClientFrame & { id?: Correlation }) {
    if (connection.state === 'open') socket?.send(frame)
  }

  /** The network may be back, or the page visible again. */
  function wake() {
    if (connection.state === 'open') socket?.probe()
    // If the hub named a time, the page waits for it.
    if (connection.state === 'waiting' && retriesOnWake) void attemptWith(nextWish)
  }

  async function attemptWith(wish: TokenWish) {
    endAttempt()
    const current = generation
    setState({ state: 'connecting' })
    const token = await tokenWithin(wish).catch(reportOfToken)
    if (current !== generation) return
    if (typeof token !== 'string') return retryAfter({ code: null, ...token }, jitter(), wish, true)
    // The hub would close with 1009, and the next token of the app would be as large.
    const bytes = authFrameBytesMin(token)
    if (bytes > parts.firstFrameBytesMax) {
      const room = parts.firstFrameBytesMax - (bytes - token.length)
      const report = tooLargeToken(token.length, `the first frame has room for ${room}`)
      return stop({ state: 'closed', reason: { code: null, ...report } })
    }
    open(token)
  }

  function open(token: string) {
    const current = generation
    const authFrame = parts.authFrame(token)
    // The callbacks of `authFrame` may make the page close the connection.
    if (current !== generation) return
    offered = token
    try {
      socket = openSocket(parts.url, authFrame, timeouts, environment, {
        onFrame: frame => (frame.kind === 'auth.ok' ? onAuthOk(frame, token) : onFrame(frame)),
        onEnd,
      })
    } catch (error) {
      // No WebSocket in this runtime, no valid address, or the page's security policy does not allow it.
      const missing = error instanceof WebSocketMissing ? error.report : null
      stop({ state: 'closed', reason: { code: null, ...(missing ?? blocked()) } })
    }
  }

  /** Gets a token. Rejects if the app gives none, or not in time. */
  function tokenWithin(wish: TokenWish): Promise<string> {
    return new Promise((resolve, reject) => {
      const cancel = environment.after(timeouts.connectMs, () => reject(late()))
      tokens.get(wish).finally(cancel).then(resolve, reject)
    })
  }

  function blocked(): FailureReport {
    const { url } = parts
    if (environment.pageOrigin()?.startsWith('https:') && url.startsWith('ws:')) return insecure(url)
    return {
      failure: 'blocked_by_page',
      text: `the browser does not allow ${url}`,
      hint: "The page's Content-Security-Policy must allow it in connect-src.",
    }
  }

  function onAuthOk(authOk: AuthOk, token: string) {
    nextWish = 'connect'
    diagnosed = null
    parts.diagnosis.prove()
    cancelSteady = environment.after(steadyMs, () => {
      attempt = 0
    })
    onTokenAccepted(token, authOk.expiresInMs)
    setState({ state: 'open', connectionId: authOk.connectionId, sub: authOk.sub })
    parts.onAuthOk(authOk)
  }

  function onFrame(frame: Frame) {
    if (connection.state !== 'open') return
    if (frame.kind === 'error' && frame.re === renewalId) return renewLater()
    if (frame.kind === 'auth.refreshed' && renewing !== null) onTokenAccepted(renewing, frame.expiresInMs)
    parts.onFrame(frame)
  }

  function onEnd(end: SocketEnd) {
    const reason = { code: end.code, ...failureOfEnd(end) }
    // The same token would be refused again, and so would another one of that size.
    const connecting = connection.state === 'connecting'
    if (connecting && end.code === forbidden && parts.onForbidden()) {
      endAttempt()
      return open(offered)
    }
    const tooLarge = connecting && reason.failure === 'token_too_large'
    const waitMs = tooLarge ? null : waitAfter(end.code, end.hints, jitter())
    if (waitMs === null) return stop({ state: 'closed', reason })
    const advice = adviceOf(end.code)
    if (advice === 'comeBackWithNewToken') tokens.forget()
    retryAfter(
      reason,
      waitMs,
      advice === 'comeBackWithNewToken' ? 'refused' : 'connect',
      advice === 'comeBack',
    )
    if (connecting && end.code === 1006) void diagnose(end)
  }

  function failureOfEnd({ code, reason, error, opened }: SocketEnd): FailureReport {
    const authenticated = connection.state === 'open'
    const refused = authenticated ? renewing : offered
    // The hub's clock decides whether a token has expired: this machine's clock may be wrong.
    if (code === 4401 && refused !== null) {
      const bytesMax = tokenBytesMax(parts.firstFrameBytesMax)
      return refusedToken(refused, error?.ts ?? environment.now(), bytesMax)
    }
    if (code === 1009 && refused !== null)
      return tooLargeToken(refused.length, error?.message ?? 'the hub accepts less')
    const report = failureOfClose(code, error?.message)
    if (code !== 1006) return report
    if (!opened && diagnosed) return diagnosed
    return {
      ...report,
      ...(!authenticated && { failure: 'unreachable' }),
      ...(reason !== '' && { text: reason }),
    }
  }

  /** Browsers do not report why a handshake failed. The diagnosis replaces the first reason. */
  async function diagnose(end: SocketEnd) {
    const report = await parts.diagnosis.ask()
    if (report === null || connection.state === 'open' || connection.state === 'closed') return
    // After a successful handshake, the only question is whether the server is a hub.
    if (end.opened && report.failure !== 'not_a_hub') return
    diagnosed = report
    if (connection.state !== 'waiting' || connection.reason.code !== 1006) return
    setState({ ...connection, reason: { code: 1006, ...report } })
  }

  function stop(closed: Connection) {
    endAttempt()
    // Another person may connect next, at any time.
    tokens.forget()
    diagnosed = null
    parts.diagnosis.stop()
    endWake?.()
    endWake = null
    setState(closed)
  }

  function retryAfter(reason: ConnectionEnd, waitMs: number, wish: TokenWish, mayWake: boolean) {
    endAttempt()
    attempt++
    retriesOnWake = mayWake
    nextWish = wish
    cancelAttempt = environment.after(waitMs, () => void attemptWith(wish))
    setState({ state: 'waiting', reason, nextAttemptAt: environment.now() + waitMs })
  }

  /** Ends the socket and all timers. */
  function endAttempt() {
    generation++
    cancelAttempt()
    cancelRenewal()
    cancelSteady()
    socket?.close()
    socket = null
    renewing = null
  }

  function setState(next: Connection) {
    connection = next
    parts.onState(next)
  }

  function jitter(): number {
    return fullJitter(backoff, attempt, environment.random())
  }

  /** Stores how long `token` is valid, and schedules its renewal. */
  function onTokenAccepted(token: string, expiresInMs: number | undefined) {
    renewing = null
    renewalsFailed = 0
    if (expiresInMs === undefined) return
    tokens.onAccepted(token, expiresInMs)
    scheduleRenewal(Math.max(expiresInMs - renewBeforeMs, expiresInMs * 0.75, renewMsMin))
  }

  function scheduleRenewal(ms: number) {
    cancelRenewal()
    cancelRenewal = environment.after(Math.min(ms, timerMsMax), () => void renew())
  }

  async function renew() {
    const current = generation
    try {
      const token = await tokens.get('expiring')
      if (current !== generation) return
      renewing = token
      send({ type: 'refresh', token, id: renewalId })
    } catch (error) {
      if (current !== generation) return
      parts.onRenewalFailed(reportOfToken(error))
      // The connection stays open until the present token expires. Until then, renewals are retried.
      renewLater()
    }
  }

  /** Renewals have a backoff of their own, because the connection is open. */
  function renewLater() {
    renewing = null
    scheduleRenewal(renewMsMin + fullJitter(backoff, ++renewalsFailed, environment.random()))
  }

  return { connect, close, drop, restart, send }
}

function reportOfToken(error: unknown): FailureReport {
  if (error instanceof TokenFailure) return error.report
  return { failure: 'token_failed', text: 'getToken failed', hint: null, cause: error }
}

/** The `id` of refresh frames. */
const renewalId = 'refresh'
