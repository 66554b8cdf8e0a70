import { type Backoff, fullJitter } from './backoff.js'
import type { Failure } from './failure.js'
import type { RoomwireProblem } from './problem.js'

/**
 * The time limit of `createRoom` with all its attempts, milliseconds. A restart of a hub ends within it, and so do most
 * waits that Discord asks for. A person hardly waits longer at a form. A token that the last attempt must renew adds up to
 * another attempt's time.
 */
export const createMsMax = 60_000

/** A bound of its own, because the wall clock may be set back. Within `createMsMax` the waits allow about 20 attempts. */
export const createAttemptsMax = 30

const backoff: Backoff = { baseMs: 500, capMs: 5_000 }

/** A developer or an operator must change something first. */
const mistakes: ReadonlySet<Failure> = new Set([
  'wrong_scheme',
  'origin_not_allowed',
  'not_a_hub',
  'blocked_by_page',
])

/** An attempt of `createRoom` that failed. */
export interface FailedAttempt {
  /** 0 is the first one. */
  readonly attempt: number
  /** Since the first attempt began, milliseconds. */
  readonly elapsedMs: number
  readonly problem: RoomwireProblem
}

/**
 * Whether `createRoom` sends the same request again, with the same key.
 *
 * @param attemptMs the time limit of the next attempt
 * @param random a number in [0, 1)
 * @returns the wait in milliseconds, never below `retryAfterMs`; `null` to give up
 */
export function retryAfter(failed: FailedAttempt, attemptMs: number, random: number): number | null {
  const { attempt, elapsedMs, problem } = failed
  if (!problem.retriable || attempt + 1 >= createAttemptsMax) return null
  // The wait for a budget is long, and the app knows better whether the person still wants the room.
  if (problem.code === 'RATE_LIMITED') return null
  if (problem.failure && mistakes.has(problem.failure)) return null
  const wait = (problem.retryAfterMs ?? 0) + fullJitter(backoff, attempt, random)
  return Math.max(elapsedMs, 0) + wait + attemptMs <= createMsMax ? wait : null
}
