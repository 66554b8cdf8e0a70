import type { Diagnosis } from './diagnosis.js'
import type { Environment } from './environment.js'
import type { FailureReport } from './failure.js'
import { parseJson, RoomwireProblem, readProblem } from './problem.js'
import { identityOf, refusedToken, TokenFailure, type TokenSource } from './token.js'
import type { CreatedRoom, CreateRoom, RoomList } from './wire/index.js'

/** Options of a request. */
export interface RequestOptions {
  /** Ends the request early. */
  readonly signal?: AbortSignal
}

/** Commands to rooms. Each rejects with a `RoomwireProblem`, or with the reason of the signal that ended it. */
export interface RoomActions {
  /** Creates a room. It appears in the state when Discord has reported it. */
  readonly createRoom: (room?: CreateRoom, options?: RequestOptions) => Promise<CreatedRoom>
  /** Ends a room that Roomwire created. Succeeds if the room is gone already. */
  readonly endRoom: (channelId: string, options?: RequestOptions) => Promise<void>
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
  readonly environment: Pick<Environment, 'fetch' | 'after' | 'now'>
  /** The largest token that the hub probably accepts, bytes. */
  readonly tokenBytesMax: number
  /** Called with the reason why a command failed, unless the hub refused it with a problem. */
  readonly onFailure: (report: FailureReport) => void
}

export function roomActions(parts: ActionParts): RoomActions {
  const { base, tokens, environment } = parts

  async function request(method: string, path: string, options: RequestOptions, init: RequestInit = {}) {
    const tokenFor = tokens.ofPerson()
    const send = async (token: string, signal: AbortSignal) => {
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      const answer = await environment
        .fetch(base + path, { ...init, method, headers, signal })
        .catch(cause => unreached(cause, signal))
      return { status: answer.status, ok: answer.ok, text: await answer.text(), token }
    }
    const first = await within(environment, options.signal, async signal =>
      send(await tokenFor('connect').catch(withoutToken), signal),
    )
    const again = async (signal: AbortSignal) => {
      const token = await tokenFor('refused').catch(withoutToken)
      // A command of one person is not repeated with the token of another.
      return identityOf(token) === identityOf(first.token) ? send(token, signal) : first
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
      const answer = await request('POST', '/api/create-room', options, {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(room),
      })
      return readAnswer<CreatedRoom>(answer, body => typeof body.channelId === 'string')
    },
    endRoom: async (channelId, options = {}) => {
      const answer = await request('DELETE', `/api/end-room/${encodeURIComponent(channelId)}`, options)
      readAnswer(answer, body => body.ok === true)
    },
    listRooms: async (guildId, options = {}) => {
      const query = guildId === undefined ? '' : `?guildId=${encodeURIComponent(guildId)}`
      const answer = await request('GET', `/api/rooms${query}`, options)
      return readAnswer<RoomList>(answer, body => Array.isArray(body.rooms))
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

/** As the signal's own method does, which React Native and browsers before 2022 lack. */
function throwIfAborted(signal: AbortSignal | undefined) {
  if (signal?.aborted) throw signal.reason ?? Object.assign(new Error('aborted'), { name: 'AbortError' })
}

const unreachable: FailureReport = { failure: 'unreachable', text: 'the hub cannot be reached', hint: null }

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
