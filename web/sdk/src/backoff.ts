/** The bounds of the waits between attempts. */
export interface Backoff {
  /** Upper end of the first wait, milliseconds. 1 to 60,000; default 500. */
  readonly baseMs: number
  /** Upper end of every wait, milliseconds. `baseMs` to 600,000; default 15,000: all pages reconnect within this time. */
  readonly capMs: number
}

export const defaultBackoff: Backoff = { baseMs: 500, capMs: 15_000 }

/**
 * Full jitter: a random wait between zero and a ceiling that doubles with each attempt. It spreads pages that lost their
 * hub at the same moment better than a wait with a fixed part.
 *
 * @param attempt 0 is the first retry
 * @param random a number in [0, 1), such as `Math.random()` returns
 */
export function fullJitter(backoff: Backoff, attempt: number, random: number): number {
  // 2^30 is larger than every cap.
  const ceiling = Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(Math.max(attempt, 0), 30))
  return Math.floor(ceiling * Math.min(Math.max(random, 0), 1))
}
