/** How long to wait before attempt `attempt` (0 is the first retry). */
export interface Backoff {
  /** Upper end of the first wait, milliseconds. 1 to 60,000; default 500. */
  readonly baseMs: number
  /** Upper end of every wait, milliseconds. `baseMs` to 600,000; default 15,000: so long after a hub is back, every page is. */
  readonly capMs: number
}

export const defaultBackoff: Backoff = { baseMs: 500, capMs: 15_000 }

/**
 * Full jitter: a wait drawn evenly from zero to a ceiling that doubles with each attempt. Spreads a crowd that
 * lost its hub at the same moment better than any wait with a fixed part.
 *
 * @param luck a number in [0, 1), such as `Math.random()` gives
 */
export function fullJitter(backoff: Backoff, attempt: number, luck: number): number {
  // 2^30 is past every cap; beyond it the power would only lose precision.
  const ceiling = Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(Math.max(attempt, 0), 30))
  return Math.floor(ceiling * Math.min(Math.max(luck, 0), 1))
}
