import { type Advice, CLOSE_ADVICE } from './wire/index.js'

/** What to do after a close code. Unknown codes are treated as a lost network. */
export function adviceOf(code: number): Advice {
  return CLOSE_ADVICE[code] ?? 'comeBack'
}

/** The close code if the token does not allow the request. */
export const forbidden = 4403

/** A close code in words, for people. */
export function wordsOf(code: number): string {
  return words.get(code) ?? 'connection lost'
}

/** Waits that the hub named before it closed. */
export interface CloseHints {
  /** From the last `draining` notice, milliseconds. */
  readonly reconnectAfterMs: number | undefined
  /** From the last error frame, milliseconds. */
  readonly retryAfterMs: number | undefined
}

/** The longest wait that a hint can cause, milliseconds. */
export const hintMsMax = 600_000

/**
 * Milliseconds until the next attempt; `null`: no attempt.
 *
 * @param jitterMs the wait of the backoff. For some codes a hint replaces it, but only if it is longer: a page that keeps
 * failing must not overload a hub whose hint is 0
 */
export function waitAfter(code: number, hints: CloseHints, jitterMs: number): number | null {
  switch (adviceOf(code)) {
    case 'stayAway':
      return null
    case 'comeBack':
    case 'comeBackWithNewToken':
      return jitterMs
    case 'comeBackAfterNotice':
      return notSooner(hints.reconnectAfterMs, jitterMs)
    case 'comeBackAfterError':
      return notSooner(hints.retryAfterMs, jitterMs)
  }
}

function notSooner(hintMs: number | undefined, jitterMs: number): number {
  return hintMs === undefined ? jitterMs : Math.min(Math.max(hintMs, jitterMs), hintMsMax)
}

const words: ReadonlyMap<number, string> = new Map([
  [1000, 'asked for'],
  [1001, 'the hub is draining'],
  [1002, 'protocol error'],
  [1003, 'binary frames are not understood'],
  [1007, 'the text was not valid'],
  [1008, 'against the policy'],
  [1009, 'a message was too big'],
  [1011, 'the hub failed'],
  [1012, 'the hub is restarting'],
  [1013, 'the hub is overloaded'],
  [4400, 'a message was not understood'],
  [4401, 'the token is not valid any more'],
  [4403, 'not allowed'],
  [4408, 'no authentication in time'],
  [4429, 'too many connections or messages'],
  [4503, 'tokens cannot be verified right now'],
])
