import { type Advice, CLOSE_ADVICE } from './wire/index.js'

/** What to do after a close code; a code that the table does not have is the network's. */
export function adviceOf(code: number): Advice {
  return CLOSE_ADVICE[code] ?? 'comeBack'
}

/** The close code for what a token does not allow. */
export const forbidden = 4403

/** A close code in words, for people. */
export function wordsOf(code: number): string {
  return words.get(code) ?? 'connection lost'
}

/** What the hub said about time before it closed. */
export interface CloseHints {
  /** From the last `draining` notice, milliseconds. */
  readonly reconnectAfterMs: number | undefined
  /** From the last error frame, milliseconds. */
  readonly retryAfterMs: number | undefined
}

/** No hint of a hub keeps a page away for longer, milliseconds. */
export const hintMsMax = 600_000

/**
 * Milliseconds until the next attempt, or `null` to stay away.
 *
 * @param jitterMs the wait that backoff proposes. A hint replaces it where the table says so, but never by less:
 * a page that keeps failing does not hammer a hub that keeps saying "at once"
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
  [4503, 'tokens can not be verified right now'],
])
