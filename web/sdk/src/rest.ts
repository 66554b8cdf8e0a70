import type { Environment } from './environment.js'
import type { TokenSource } from './token.js'
import type { Code, CreatedRoom, CreateRoom, FieldProblem, Problem, RoomList } from './wire/index.js'
import { RETRIABLE } from './wire/index.js'

/** What went wrong: one of the hub's codes, or `NETWORK` if no hub answered. */
export type ProblemCode = Code | 'NETWORK'

/** A request that the hub refused (RFC 9457), or that did not reach it. */
export class RoomwireProblem extends Error {
  /** What programs act on. */
  readonly code: ProblemCode
  /** The HTTP status; 0 for `NETWORK`. */
  readonly status: number
  /** The same words for every problem of this code. */
  readonly title: string
  /** Which fields are wrong. */
  readonly errors: readonly FieldProblem[]
  /** Names the request in the hub's log. */
  readonly requestId: string | null
  /** Where waiting helps: how long, milliseconds. */
  readonly retryAfterMs: number | null
  /** Whether the same request may succeed later. */
  readonly retriable: boolean

  constructor(
    problem: Partial<Omit<Problem, 'code'>> & { code: ProblemCode; status: number },
    cause?: unknown,
  ) {
    super(problem.detail || problem.title || problem.code, { cause })
    this.name = 'RoomwireProblem'
    this.code = problem.code
    this.status = problem.status
    this.title = problem.title ?? problem.code
    this.errors = problem.errors ?? []
    this.requestId = problem.requestId ?? null
    this.retryAfterMs = problem.retryAfterMs ?? null
    this.retriable = problem.code === 'NETWORK' || RETRIABLE.has(problem.code)
  }
}

/** How a request is made. */
export interface RequestOptions {
  /** Ends the request early. */
  readonly signal?: AbortSignal
}

/** Commands to rooms. Each rejects with a `RoomwireProblem`. */
export interface RoomActions {
  /** Opens a room; it appears in the state when Discord has told of it. */
  readonly createRoom: (
    room?: CreateRoom,
    options?: RequestOptions & IdempotencyOptions,
  ) => Promise<CreatedRoom>
  /** Ends a room that Roomwire made. A room that is gone already is a success. */
  readonly endRoom: (channelId: string, options?: RequestOptions) => Promise<void>
  /** The rooms now, for whoever needs no live ones. */
  readonly listRooms: (guildId?: string, options?: RequestOptions) => Promise<RoomList>
}

export interface IdempotencyOptions {
  /** The same key and room gives the same room: for whoever tries again. */
  readonly idempotencyKey?: string
}

/** A request is given up after this, milliseconds: Discord's own limits may take their time. */
export const requestMsMax = 15_000

export function roomActions(base: string, tokens: TokenSource, environment: Environment): RoomActions {
  async function request(method: string, path: string, options: RequestOptions, init: RequestInit = {}) {
    const once = async (wish: 'connect' | 'refused') => {
      const token = await tokens.get(wish)
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      return fetchWithin(environment, base + path, { ...init, method, headers }, options.signal)
    }
    const first = await once('connect')
    // Tokens may end between two looks at a clock: one more try, with another one.
    const response = first.status === 401 ? await once('refused') : first
    if (!response.ok) throw await readProblem(response)
    return response
  }

  return {
    createRoom: async (room = {}, options = {}) => {
      const { idempotencyKey } = options
      const response = await request('POST', '/api/create-room', options, {
        headers: {
          'content-type': 'application/json',
          ...(idempotencyKey && { 'idempotency-key': idempotencyKey }),
        },
        body: JSON.stringify(room),
      })
      return (await response.json()) as CreatedRoom
    },
    endRoom: async (channelId, options = {}) => {
      await request('DELETE', `/api/end-room/${encodeURIComponent(channelId)}`, options)
    },
    listRooms: async (guildId, options = {}) => {
      const query = guildId === undefined ? '' : `?guildId=${encodeURIComponent(guildId)}`
      const response = await request('GET', `/api/rooms${query}`, options)
      return (await response.json()) as RoomList
    },
  }
}

async function fetchWithin(
  environment: Environment,
  url: string,
  init: RequestInit,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const end = new AbortController()
  const abort = () => end.abort()
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort)
  const callOff = environment.after(requestMsMax, abort)
  try {
    return await environment.fetch(url, { ...init, signal: end.signal })
  } catch (cause) {
    if (signal?.aborted) throw cause
    throw new RoomwireProblem({ code: 'NETWORK', status: 0, title: 'The hub can not be reached' }, cause)
  } finally {
    callOff()
    signal?.removeEventListener('abort', abort)
  }
}

/** Reads a problem; an answer that is none (some proxy's page) becomes one by its status. */
async function readProblem(response: Response): Promise<RoomwireProblem> {
  const { status } = response
  try {
    const body = (await response.json()) as Partial<Problem> | null
    if (body && typeof body.code === 'string')
      return new RoomwireProblem({ ...body, code: body.code, status })
  } catch {
    // Not JSON.
  }
  const code = codeOf(status)
  return new RoomwireProblem({ code, status, title: `The hub answered with status ${status}` })
}

function codeOf(status: number): Code {
  switch (status) {
    case 400:
      return 'BAD_REQUEST'
    case 401:
      return 'UNAUTHORIZED'
    case 403:
      return 'FORBIDDEN'
    case 404:
      return 'NOT_FOUND'
    case 409:
      return 'CONFLICT'
    case 413:
      return 'TOO_LARGE'
    case 429:
      return 'RATE_LIMITED'
    case 502:
    case 503:
    case 504:
      return 'UNAVAILABLE'
    default:
      return status < 500 ? 'BAD_REQUEST' : 'INTERNAL'
  }
}
