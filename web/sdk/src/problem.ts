import type { Failure, FailureReport } from './failure.js'
import { type Fields, isRecord } from './frames.js'
import type { Code, FieldProblem, Problem } from './wire/index.js'
import { RETRIABLE } from './wire/index.js'

/** One of the hub's codes, or `NETWORK` if no hub answered. */
export type ProblemCode = Code | 'NETWORK'

/** A request that the hub refused (RFC 9457), or that did not reach it. */
export class RoomwireProblem extends Error {
  /** The code, for programs. */
  readonly code: ProblemCode
  /** The HTTP status; 0 if no hub answered: for `NETWORK`, and if the app gave no token. */
  readonly status: number
  /** The same text for every problem of this code. */
  readonly title: string
  /** The wrong fields. */
  readonly errors: readonly FieldProblem[]
  /** The id of the request in the hub's log. */
  readonly requestId: string | null
  /** When to try again, milliseconds; `null` if unknown. */
  readonly retryAfterMs: number | null
  /** Whether the same request may succeed later. */
  readonly retriable: boolean
  /** Why no hub answered, or why it did not accept the token; otherwise `null`. */
  readonly failure: Failure | null
  /** What a developer or an operator can do about `failure`. */
  readonly hint: string | null

  constructor(
    problem: Partial<Omit<Problem, 'code'>> & { code: ProblemCode; status: number },
    cause?: unknown,
    report: FailureReport | null = null,
  ) {
    super(problem.detail || problem.title || problem.code, { cause })
    this.name = 'RoomwireProblem'
    this.code = problem.code
    this.status = problem.status
    this.title = problem.title ?? problem.code
    this.errors = problem.errors ?? []
    this.requestId = problem.requestId ?? null
    this.retryAfterMs = problem.retryAfterMs ?? null
    this.failure = report?.failure ?? null
    this.hint = report?.hint ?? null
    this.retriable = problem.code === 'NETWORK' || RETRIABLE.has(problem.code)
  }
}

/** Parses a problem. An answer that is not the hub's, such as a proxy's page, becomes a problem by its status. */
export function readProblem(
  status: number,
  text: string,
  report: FailureReport | null = null,
): RoomwireProblem {
  const body = parseJson(text)
  if (!body || typeof body.code !== 'string') {
    return new RoomwireProblem(
      { code: codeOf(status), status, title: `The hub answered with status ${status}` },
      undefined,
      report,
    )
  }
  const { title, detail, requestId, retryAfterMs, errors } = body
  const problem = {
    // A newer hub may have codes that this SDK does not know.
    code: body.code as Code,
    status,
    ...(typeof title === 'string' && { title }),
    ...(typeof detail === 'string' && { detail }),
    ...(typeof requestId === 'string' && { requestId }),
    ...(typeof retryAfterMs === 'number' && retryAfterMs >= 0 && { retryAfterMs }),
    ...(Array.isArray(errors) && { errors: errors.filter(isFieldProblem) }),
  }
  return new RoomwireProblem(problem, undefined, report)
}

/** Parses a JSON object; `null` for any other text. */
export function parseJson(text: string): Fields | null {
  try {
    const body: unknown = JSON.parse(text)
    return isRecord(body) ? body : null
  } catch {
    return null
  }
}

function isFieldProblem(value: unknown): value is FieldProblem {
  return isRecord(value) && typeof value.field === 'string' && typeof value.detail === 'string'
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
