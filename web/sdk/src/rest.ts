import { retryAfter } from './create-retry.js'
import type { Diagnosis } from './diagnosis.js'
import type { Environment } from './environment.js'
import type { FailureReport } from './failure.js'
import { link } from './frames.js'
import { newIdempotencyKey, readIdempotencyKey } from './idempotency-key.js'
import { joinUrlOf } from './join.js'
import { parseJson, RoomwireProblem, readProblem } from './problem.js'
import type { Room } from './rooms.js'
import { identityOf, refusedToken, TokenFailure, type TokenSource, type TokenWish } from './token.js'
import type { CreatedRoom, CreateInvite, CreateRoom, Invite, RoomList } from './wire/index.js'

/** Options of a request. */
export interface RequestOptions {
  /** Ends the request early. */
  readonly signal?: AbortSignal
}

/** Options of `createRoom`. */
export interface CreateOptions extends RequestOptions {
  /**
   * Names this creation for 24 hours: calls with the same key and the same room create one room, also after a reload. 1
   * to 255 visible ASCII characters. Default: a fresh one for each call.
   */
  readonly idempotencyKey?: string
}

/** Commands to rooms. Each promise rejects with a `RoomwireProblem`, or with the reason of the signal that ended it. */
export interface RoomActions {
  /**
   * Creates a room. It appears in the state when Discord has reported it. Failures that may pass are retried with the same
   * idempotency key, for at most a minute; a 429 `RATE_LIMITED` is not. Rejects with a `TypeError` if the key is
   * malformed.
   */
  readonly createRoom: (room?: CreateRoom, options?: CreateOptions) => Promise<CreatedRoom>
  /** Ends a room that Roomwire created. Succeeds if the room is gone already. */
  readonly endRoom: (channelId: string, options?: RequestOptions) => Promise<void>
  /**
   * Creates an invite of Discord to the room, for people who are not in the guild. With `maxUses` each call creates
   * another one; without, Discord may return one that exists. A failure is not retried. Needs `rooms:create`, or
   * `rooms:end` for an own room, or `rooms:manage`.
   */
  readonly createInvite: (
    channelId: string,
    invite?: CreateInvite,
    options?: RequestOptions,
  ) => Promise<Invite>
  /**
   * Opens a room of the state in Discord, in a new tab, and returns its link. Sends no request. If the browser blocks
   * the tab, the page itself follows the link: call it in a click. Without a page, as in Node, it only returns the link.
   *
   * @throws Error if the state has no such room
   */
  readonly joinRoom: (channelId: string) => string
  /** The rooms now, for programs that need no live rooms. */
  readonly listRooms: (guildId?: string, options?: RequestOptions) => Promise<RoomList>
}

/**
 * The time limit of an attempt, from `getToken` to the last byte of the answer, milliseconds. Discord's rate limits may
 * delay an answer.
 */
export const requestMsMax = 15_000

/** The parts that commands use, and the callback for failures. */
export interface ActionParts {
  /** The hub's address. */
  readonly base: string
  readonly tokens: TokenSource
  readonly diagnosis: Diagnosis
  readonly environment: Pick<Environment, 'fetch' | 'after' | 'now' | 'random' | 'openLink'>
  /** A room of the state. */
  readonly roomOf: (channelId: string) => Room | undefined
  /** The largest token that the hub probably accepts, bytes. */
  readonly tokenBytesMax: number
  /** Called with the reason why a command failed, unless the hub refused it with a problem. */
  readonly onFailure: (report: FailureReport) => void
}

export function roomActions(parts: ActionParts): RoomActions {
  const { base, tokens, environment } = parts

  /** Who gives a command: all its attempts use tokens of the same person. */
  function person() {
    const tokenFor = tokens.ofPerson()
    let first: string | undefined
    return {
      token: (wish: TokenWish) => tokenFor(wish).catch(withoutToken),
      /** Whether this token belongs to the person of the first one. */
      owns: (token: string) => {
        first ??= token
        return identityOf(token) === identityOf(first)
      },
    }
  }

  async function request(
    method: string,
    path: string,
    options: RequestOptions,
    init: RequestInit = {},
    by = person(),
  ) {
    const send = async (token: string, signal: AbortSignal) => {
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      const answer = await environment
        .fetch(base + path, { ...init, method, headers, signal })
        .catch(cause => unreached(cause, signal))
      return { status: answer.status, ok: answer.ok, text: await answer.text(), token }
    }
    const first = await within(environment, options.signal, async signal => {
      const token = await by.token('connect')
      if (!by.owns(token)) throw anotherPerson()
      return send(token, signal)
    })
    const again = async (signal: AbortSignal) => {
      const token = await by.token('refused')
      // A command of one person is not repeated with the token of another.
      return by.owns(token) ? send(token, signal) : first
    }
    // The token may expire on its way: one more attempt, with another token.
    const answer = first.status === 401 ? await within(environment, options.signal, again) : first
    if (answer.ok) return answer.text
    const report =
      answer.status === 401 ? refusedToken(answer.token, environment.now(), parts.tokenBytesMax) : null
    if (report) parts.onFailure(report)
    throw readProblem(answer.status, answer.text, report)
  }

  /** The error of a request without an answer, with the reason if the diagnosis finds it. */
  async function unreached(cause: unknown, signal: AbortSignal): Promise<never> {
    const found = signal.aborted ? null : await parts.diagnosis.ask()
    // A command needs no WebSocket.
    const report = found?.failure === 'websocket_blocked' ? null : found
    if (report) parts.onFailure(report)
    throw noHub(cause, report)
  }

  function withoutToken(cause: unknown): never {
    const report = cause instanceof TokenFailure ? cause.report : null
    if (report) parts.onFailure(report)
    throw new RoomwireProblem(
      {
        code: 'UNAUTHORIZED',
        status: 0,
        title: 'The command was not sent without a token',
        ...(report && { detail: sentenceOf(report.text) }),
      },
      report?.cause,
      report,
    )
  }

  return {
    createRoom: async (room = {}, options = {}) => {
      const { idempotencyKey, signal } = options
      const key = idempotencyKey === undefined ? newIdempotencyKey() : readIdempotencyKey(idempotencyKey)
      // The app may change `room` between two attempts.
      const init = {
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify(room),
      }
      const by = person()
      const begunAt = environment.now()
      for (let attempt = 0; ; attempt++) {
        try {
          const answer = await request('POST', '/api/create-room', options, init, by)
          return readAnswer<CreatedRoom>(answer, body => typeof body.channelId === 'string')
        } catch (problem) {
          if (!(problem instanceof RoomwireProblem)) throw problem
          const elapsedMs = environment.now() - begunAt
          const wait = retryAfter({ attempt, elapsedMs, problem }, requestMsMax, environment.random())
          if (wait === null) throw problem
          await pause(environment, wait, signal)
        }
      }
    },
    endRoom: async (channelId, options = {}) => {
      const answer = await request('DELETE', `/api/end-room/${encodeURIComponent(channelId)}`, options)
      readAnswer(answer, body => body.ok === true)
    },
    createInvite: async (channelId, invite = {}, options = {}) => {
      const path = `/api/rooms/${encodeURIComponent(channelId)}/invites`
      const init = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(invite) }
      const answer = await request('POST', path, options, init)
      return readAnswer<Invite>(answer, body => link(body.url) !== undefined && typeof body.code === 'string')
    },
    joinRoom: channelId => {
      const room = parts.roomOf(channelId)
      if (!room)
        throw new Error(`The room ${channelId} is not known. Pass the channelId of a room in the state.`)
      environment.openLink(room.joinUrl)
      return room.joinUrl
    },
    listRooms: async (guildId, options = {}) => {
      const query = guildId === undefined ? '' : `?guildId=${encodeURIComponent(guildId)}`
      const answer = await request('GET', `/api/rooms${query}`, options)
      const list = readAnswer<RoomList>(answer, body => Array.isArray(body.rooms))
      const rooms = list.rooms.map(room => ({
        ...room,
        joinUrl: link(room.joinUrl) ?? joinUrlOf(room.guildId, room.channelId),
      }))
      return { ...list, rooms }
    },
  }
}

/** Runs `work` until it is done, its time limit is reached, or the page aborts it. */
async function within<Result>(
  environment: Pick<Environment, 'after'>,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  throwIfAborted(signal)
  const end = new AbortController()
  const giveUp = () => end.abort(signal?.reason)
  signal?.addEventListener('abort', giveUp)
  const cancel = environment.after(requestMsMax, () => end.abort(new Error('no answer in time')))
  const ended = new Promise<never>((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason))
  })
  try {
    // `getToken`, for example, does not observe the signal. Its result is dropped.
    return await Promise.race([work(end.signal), ended])
  } catch (cause) {
    throwIfAborted(signal)
    if (cause instanceof RoomwireProblem) throw cause
    throw noHub(cause, unreachable)
  } finally {
    cancel()
    signal?.removeEventListener('abort', giveUp)
  }
}

/** Waits, unless the page aborts it. */
async function pause(
  environment: Pick<Environment, 'after'>,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  throwIfAborted(signal)
  await new Promise<void>(resolve => {
    const end = () => {
      cancel()
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const cancel = environment.after(ms, end)
    signal?.addEventListener('abort', end)
  })
  throwIfAborted(signal)
}

/** As the signal's own method does, which React Native and browsers before 2022 lack. */
function throwIfAborted(signal: AbortSignal | undefined) {
  if (signal?.aborted) throw signal.reason ?? Object.assign(new Error('aborted'), { name: 'AbortError' })
}

const unreachable: FailureReport = { failure: 'unreachable', text: 'the hub cannot be reached', hint: null }

const anotherPerson = () =>
  new RoomwireProblem({
    code: 'UNAUTHORIZED',
    status: 0,
    title: 'The command was not repeated with the token of another person',
  })

function noHub(cause: unknown, report: FailureReport | null): RoomwireProblem {
  const { text } = report ?? unreachable
  return new RoomwireProblem(
    {
      code: 'NETWORK',
      status: 0,
      title: 'The hub cannot be reached',
      detail: sentenceOf(text),
    },
    cause,
    report ?? unreachable,
  )
}

function sentenceOf(text: string): string {
  // `getToken` is not capitalized.
  return `${text.replace(/^[a-z]+\b/, word => word.charAt(0).toUpperCase() + word.slice(1))}.`
}

/** Parses a success. The page of a proxy is not one. */
function readAnswer<Answer>(
  text: string,
  holds: (body: Readonly<Record<string, unknown>>) => boolean,
): Answer {
  const body = parseJson(text)
  if (body && holds(body)) return body as Answer
  const hint = 'Check that url is the address of your hub, and that no proxy answers in its place.'
  throw new RoomwireProblem(
    {
      code: 'NETWORK',
      status: 0,
      title: 'The hub cannot be reached',
      detail: 'Something else answered in its place.',
    },
    undefined,
    { failure: 'not_a_hub', text: 'something else answered in its place', hint },
  )
}
