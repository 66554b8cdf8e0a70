import type { Diagnosis } from './diagnosis.js'
import type { Environment } from './environment.js'
import type { FailureReport } from './failure.js'
import { parseJson, RoomwireProblem, readProblem } from './problem.js'
import { identityOf, refusedToken, TokenFailure, type TokenSource } from './token.js'
import type { CreatedRoom, CreateRoom, RoomList } from './wire/index.js'

/** How a request is made. */
export interface RequestOptions {
  /** Ends the request early. */
  readonly signal?: AbortSignal
}

/** Commands to rooms. Each rejects with a `RoomwireProblem`, or with the reason of the signal that ended it. */
export interface RoomActions {
  /** Opens a room; it appears in the state when Discord has told of it. */
  readonly createRoom: (room?: CreateRoom, options?: RequestOptions) => Promise<CreatedRoom>
  /** Ends a room that Roomwire made. A room that is gone already is a success. */
  readonly endRoom: (channelId: string, options?: RequestOptions) => Promise<void>
  /** The rooms now, for whoever needs no live ones. */
  readonly listRooms: (guildId?: string, options?: RequestOptions) => Promise<RoomList>
}

/**
 * An attempt, from asking for a token to the answer's last byte, is given up after this, milliseconds: Discord's own
 * limits may take their time.
 */
export const requestMsMax = 15_000

/** The parts that commands use, and the callback for failures. */
export interface ActionParts {
  /** The hub's address. */
  readonly base: string
  readonly tokens: TokenSource
  readonly diagnosis: Diagnosis
  readonly environment: Pick<Environment, 'fetch' | 'after' | 'now'>
  /** How many bytes of a token the hub probably accepts. */
  readonly tokenBytesMax: number
  /** Called with what made a command fail, where that is not the hub's own refusal. */
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
      // A command of one person is not repeated as another one's.
      return identityOf(token) === identityOf(first.token) ? send(token, signal) : first
    }
    // Tokens may end between two looks at a clock: one more try, with another one.
    const answer = first.status === 401 ? await within(environment, options.signal, again) : first
    if (answer.ok) return answer.text
    const report =
      answer.status === 401 ? refusedToken(answer.token, environment.now(), parts.tokenBytesMax) : null
    if (report) parts.onFailure(report)
    throw readProblem(answer.status, answer.text, report)
  }

  /** No answer came. Why not, as far as a page can find out. */
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

/** Lets `work` go on until it is done, its time is over, or the page gives it up. */
async function within<Result>(
  environment: Pick<Environment, 'after'>,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  throwIfAborted(signal)
  const end = new AbortController()
  const giveUp = () => end.abort(signal?.reason)
  signal?.addEventListener('abort', giveUp)
  const callOff = environment.after(requestMsMax, () => end.abort(new Error('no answer in time')))
  const ended = new Promise<never>((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason))
  })
  try {
    // Whatever does not listen to the signal, an app's `getToken` say, is left behind.
    return await Promise.race([work(end.signal), ended])
  } catch (cause) {
    throwIfAborted(signal)
    if (cause instanceof RoomwireProblem) throw cause
    throw noHub(cause, unreachable)
  } finally {
    callOff()
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
  // `getToken` stays as it is written in programs.
  return `${text.replace(/^[a-z]+\b/, word => word.charAt(0).toUpperCase() + word.slice(1))}.`
}

/** Reads a success; a page of something in between is none. */
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
