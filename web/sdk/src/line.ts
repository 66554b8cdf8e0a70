/**
 * A line to a hub: connections one after the other, each with a token that holds. It knows when to come back and
 * when to stay away; what is said on it is not its matter.
 */
import { type Backoff, fullJitter } from './backoff.js'
import { adviceOf, forbidden, waitAfter } from './close-codes.js'
import { type Diagnosis, insecure } from './diagnosis.js'
import { type Environment, WebSocketMissing } from './environment.js'
import { type FailureReport, failureOfClose } from './failure.js'
import type { Frame } from './frames.js'
import { leastBytesOf, tokenBytesMax } from './hello.js'
import { openSocket, type Patience, type Socket, type SocketEnd } from './socket.js'
import { late, refusedToken, TokenFailure, type TokenSource, type TokenWish, tooLargeToken } from './token.js'
import type { ClientFrame, Correlation } from './wire/index.js'

/** Why there is no connection. */
export interface ConnectionEnd extends FailureReport {
  /** The close code; `null` if the page did not get that far, for want of a token. */
  readonly code: number | null
}

/** The connection to the hub. Times are by this machine's clock, milliseconds since 1970. */
export type Connection =
  | { readonly state: 'connecting' }
  | { readonly state: 'open'; readonly connectionId: string; readonly sub: string }
  | { readonly state: 'waiting'; readonly reason: ConnectionEnd; readonly nextAttemptAt: number }
  /** Until `connect()`. Without a reason it is what the page asked for. */
  | { readonly state: 'closed'; readonly reason: ConnectionEnd | null }

type Welcome = Extract<Frame, { kind: 'auth.ok' }>

/** What a line is made of, and whom it tells. */
export interface LineParts {
  /** The WebSocket's address. */
  readonly url: string
  readonly tokens: TokenSource
  /** Finds out why the hub cannot be reached. */
  readonly diagnosis: Diagnosis
  /** How many bytes the hub accepts as a first frame. */
  readonly firstFrameBytesMax: number
  readonly backoff: Backoff
  readonly patience: Patience
  readonly environment: Environment
  /** The first frame of a connection. */
  readonly hello: (token: string) => ClientFrame
  /** Called when the hub forbids the first frame; returns whether the next `hello` with that token asks for less. */
  readonly onForbidden: () => boolean
  readonly onState: (connection: Connection) => void
  /** Called after `onState` has said `open`. */
  readonly onWelcome: (welcome: Welcome) => void
  /** Called for every frame after the welcome. */
  readonly onFrame: (frame: Frame) => void
  /** Called when the app gave no token to renew with; the connection lives on for now. */
  readonly onRenewalFailed: (report: FailureReport) => void
}

export interface Line {
  /** Connects; or, if it waits, tries at once. */
  readonly connect: () => void
  /** Ends it, and stays away. */
  readonly close: () => void
  /** Ends this connection, as if the network had, and comes back with jitter. */
  readonly drop: (why: string) => void
  /** Ends this connection, if one is open or opening, and connects at once with the token that the app gives now. */
  readonly restart: () => void
  /** Says something if the connection is open. */
  readonly say: (frame: ClientFrame & { id?: Correlation }) => void
}

/** A connection that held for so long begins the next backoff anew, milliseconds. */
const steadyMs = 10_000
/** A token is renewed so long before its end, or after three quarters of a short life; milliseconds. */
const renewBeforeMs = 60_000
/** Never sooner than this after the one before, milliseconds. */
const renewMsMin = 1_000
/** The longest that timers can wait, milliseconds. */
const timerMsMax = 2 ** 31 - 1

export function createLine(parts: LineParts): Line {
  const { backoff, environment, patience, tokens } = parts
  let connection: Connection = { state: 'closed', reason: null }
  /** Counts what begins and ends, so that a late answer to what is over is passed over. */
  let era = 0
  let attempt = 0
  let socket: Socket | null = null
  let impatient = false
  /** What kind of token the next attempt needs. */
  let nextWish: TokenWish = 'connect'
  let renewalsFailed = 0
  let renewing: string | null = null
  /** The token of the first frame. */
  let offered = ''
  /** Why the hub cannot be reached, as it was found out; it holds until a connection is open. */
  let diagnosed: FailureReport | null = null
  let callOffAttempt = () => {}
  let callOffRenewal = () => {}
  let callOffSteady = () => {}
  let endWake: (() => void) | null = null

  function connect() {
    if (connection.state === 'connecting' || connection.state === 'open') return
    if (connection.state === 'closed') attempt = 0
    endWake ??= environment.onWake(wake)
    void begin(nextWish)
  }

  function close() {
    // The next to connect may be another person, whose token was not refused.
    nextWish = 'connect'
    stay({ state: 'closed', reason: null })
  }

  function drop(why: string) {
    const hints = { reconnectAfterMs: undefined, retryAfterMs: undefined }
    onEnd({ code: 1006, reason: why, hints, error: undefined, opened: true })
  }

  function restart() {
    tokens.forget()
    // Without a socket, no token is in use.
    if (socket) void begin('connect')
  }

  function say(frame: ClientFrame & { id?: Correlation }) {
    if (connection.state === 'open') socket?.say(frame)
  }

  /** The network may be back, or the page in sight. */
  function wake() {
    if (connection.state === 'open') socket?.probe()
    // A hub that said when to come back is left alone until then.
    if (connection.state === 'waiting' && impatient) void begin(nextWish)
  }

  async function begin(wish: TokenWish) {
    leave()
    const mine = era
    enter({ state: 'connecting' })
    const token = await tokenWithin(wish).catch(reportOfToken)
    if (mine !== era) return
    if (typeof token !== 'string') return wait({ code: null, ...token }, jitter(), wish, true)
    // The hub would close with 1009, for good; the app would give as large a token again.
    const bytes = leastBytesOf(token)
    if (bytes > parts.firstFrameBytesMax) {
      const room = parts.firstFrameBytesMax - (bytes - token.length)
      const report = tooLargeToken(token.length, `the first frame has room for ${room}`)
      return stay({ state: 'closed', reason: { code: null, ...report } })
    }
    open(token)
  }

  function open(token: string) {
    const mine = era
    const hello = parts.hello(token)
    // What is remembered with a token may make the page close the line.
    if (mine !== era) return
    offered = token
    try {
      socket = openSocket(parts.url, hello, patience, environment, {
        onFrame: frame => (frame.kind === 'auth.ok' ? onWelcome(frame, token) : onFrame(frame)),
        onEnd,
      })
    } catch (error) {
      // No WebSocket here, not an address, or one that the page's security policy does not allow.
      const missing = error instanceof WebSocketMissing ? error.report : null
      stay({ state: 'closed', reason: { code: null, ...(missing ?? blocked()) } })
    }
  }

  /** A token; rejects if the app has none to give or takes too long. */
  function tokenWithin(wish: TokenWish): Promise<string> {
    return new Promise((resolve, reject) => {
      const callOff = environment.after(patience.connectMs, () => reject(late()))
      tokens.get(wish).finally(callOff).then(resolve, reject)
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

  function onWelcome(welcome: Welcome, token: string) {
    nextWish = 'connect'
    diagnosed = null
    parts.diagnosis.prove()
    callOffSteady = environment.after(steadyMs, () => {
      attempt = 0
    })
    trust(token, welcome.expiresInMs)
    enter({ state: 'open', connectionId: welcome.connectionId, sub: welcome.sub })
    parts.onWelcome(welcome)
  }

  function onFrame(frame: Frame) {
    if (connection.state !== 'open') return
    if (frame.kind === 'error' && frame.re === renewalId) return renewLater()
    if (frame.kind === 'auth.refreshed' && renewing !== null) trust(renewing, frame.expiresInMs)
    parts.onFrame(frame)
  }

  function onEnd(end: SocketEnd) {
    const reason = { code: end.code, ...failureOfEnd(end) }
    // The same token would be refused again, and so would another one that is as large.
    const connecting = connection.state === 'connecting'
    if (connecting && end.code === forbidden && parts.onForbidden()) {
      leave()
      return open(offered)
    }
    const tooLarge = connecting && reason.failure === 'token_too_large'
    const waitMs = tooLarge ? null : waitAfter(end.code, end.hints, jitter())
    if (waitMs === null) return stay({ state: 'closed', reason })
    const advice = adviceOf(end.code)
    if (advice === 'comeBackWithNewToken') tokens.forget()
    wait(reason, waitMs, advice === 'comeBackWithNewToken' ? 'refused' : 'connect', advice === 'comeBack')
    if (connecting && end.code === 1006) void diagnose(end)
  }

  function failureOfEnd({ code, reason, error, opened }: SocketEnd): FailureReport {
    const welcomed = connection.state === 'open'
    const refused = welcomed ? renewing : offered
    // Whether a token has expired is a matter of the hub's clock; this machine's may be wrong.
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
      ...(!welcomed && { failure: 'unreachable' }),
      ...(reason !== '' && { text: reason }),
    }
  }

  /** Browsers do not say why a handshake failed. What is found out replaces what was said of it. */
  async function diagnose(end: SocketEnd) {
    const report = await parts.diagnosis.ask()
    if (report === null || connection.state === 'open' || connection.state === 'closed') return
    // Where a handshake succeeded, a WebSocket server is; the question is only whether it is a hub.
    if (end.opened && report.failure !== 'not_a_hub') return
    diagnosed = report
    if (connection.state !== 'waiting' || connection.reason.code !== 1006) return
    enter({ ...connection, reason: { code: 1006, ...report } })
  }

  function stay(closed: Connection) {
    leave()
    // Nothing says for how long it stays away, or who connects then.
    tokens.forget()
    diagnosed = null
    parts.diagnosis.stop()
    endWake?.()
    endWake = null
    enter(closed)
  }

  function wait(reason: ConnectionEnd, waitMs: number, wish: TokenWish, mayWake: boolean) {
    leave()
    attempt++
    impatient = mayWake
    nextWish = wish
    callOffAttempt = environment.after(waitMs, () => void begin(wish))
    enter({ state: 'waiting', reason, nextAttemptAt: environment.now() + waitMs })
  }

  /** Lets go of whatever is under way. */
  function leave() {
    era++
    callOffAttempt()
    callOffRenewal()
    callOffSteady()
    socket?.close()
    socket = null
    renewing = null
  }

  function enter(next: Connection) {
    connection = next
    parts.onState(next)
  }

  function jitter(): number {
    return fullJitter(backoff, attempt, environment.random())
  }

  /** Remembers for how long the hub trusts `token`, and plans the one after it. */
  function trust(token: string, holdsMs: number | undefined) {
    renewing = null
    renewalsFailed = 0
    if (holdsMs === undefined) return
    tokens.holds(token, holdsMs)
    planRenewal(Math.max(holdsMs - renewBeforeMs, holdsMs * 0.75, renewMsMin))
  }

  function planRenewal(ms: number) {
    callOffRenewal()
    callOffRenewal = environment.after(Math.min(ms, timerMsMax), () => void renew())
  }

  async function renew() {
    const mine = era
    try {
      const token = await tokens.get('expiring')
      if (mine !== era) return
      renewing = token
      say({ type: 'refresh', token, id: renewalId })
    } catch (error) {
      if (mine !== era) return
      parts.onRenewalFailed(reportOfToken(error))
      // The connection lives until the present token's end; until then it is tried again.
      renewLater()
    }
  }

  /** Renewals have a backoff of their own: the connection itself is well. */
  function renewLater() {
    renewing = null
    planRenewal(renewMsMin + fullJitter(backoff, ++renewalsFailed, environment.random()))
  }

  return { connect, close, drop, restart, say }
}

function reportOfToken(error: unknown): FailureReport {
  if (error instanceof TokenFailure) return error.report
  return { failure: 'token_failed', text: 'getToken failed', hint: null, cause: error }
}

/** The `id` of refresh frames. */
const renewalId = 'refresh'
