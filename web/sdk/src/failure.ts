/**
 * Why a page is not connected, or why a command failed: a code for programs, a text for people, and a hint. A failure that
 * ends by itself has no hint. A hint is for the developer or the operator who has to change something.
 */
import { adviceOf, wordsOf } from './close-codes.js'

/** Why something failed. More values may be added. */
export type Failure =
  /** Nothing answers at the hub's address. */
  | 'unreachable'
  /** The hub's address must begin with `https` instead of `http`, or the reverse. */
  | 'wrong_scheme'
  /** A server answers, but does not allow this origin. */
  | 'origin_not_allowed'
  /** The server at the address is not a hub. */
  | 'not_a_hub'
  /** The hub answers requests, but no WebSocket opens: a proxy does not forward them, or the hub is full. */
  | 'websocket_blocked'
  /** The browser refuses the address, because of a Content-Security-Policy. */
  | 'blocked_by_page'
  /** The runtime has no `WebSocket`, as Node 20. */
  | 'websocket_missing'
  /** `getToken` threw or rejected; `cause` is its error. */
  | 'token_failed'
  /** `getToken` did not answer in time. */
  | 'token_late'
  /** `getToken` returned no token, but an HTML page, for example. */
  | 'token_malformed'
  /** The token is larger than the hub accepts. */
  | 'token_too_large'
  /** The hub did not accept the token, and it has not expired: another issuer, audience or key, for example. */
  | 'token_invalid'
  /** The token has expired. */
  | 'token_expired'
  /** The page signed out before the command was sent. */
  | 'signed_out'
  /** The token is valid, but does not allow this. */
  | 'forbidden'
  /** Too many connections, frames or requests. */
  | 'limited'
  /** The hub is draining, restarting, full, or cannot verify tokens now. */
  | 'unavailable'
  /** The hub rejected a message of this page. */
  | 'rejected'
  /** An open connection was lost. */
  | 'connection_lost'

/** A failure, for programs and for people. */
export interface FailureReport {
  readonly failure: Failure
  /** What is wrong, for people; a part of a sentence. */
  readonly text: string
  /** What a developer or an operator can do, in sentences; `null` if it ends by itself. */
  readonly hint: string | null
  /** What `getToken` threw. */
  readonly cause?: unknown
}

/** The failure of a connection that ended before it was open. */
export function failureOfClose(code: number, detail: string | undefined): FailureReport {
  const text = detail ? `${wordsOf(code)}: ${detail}` : wordsOf(code)
  switch (code) {
    case 1001:
    case 1011:
    case 1012:
    case 1013:
    case 4503:
      return { failure: 'unavailable', text, hint: null }
    case 4401:
      return { failure: 'token_expired', text: wordsOf(code), hint: null }
    case 4403:
      return {
        failure: 'forbidden',
        text,
        hint: 'The token must have the right rooms:read.',
      }
    case 4429:
      return { failure: 'limited', text, hint: null }
    default:
      return adviceOf(code) === 'stayAway'
        ? { failure: 'rejected', text, hint: 'The hub and the SDK may be of versions that do not fit.' }
        : { failure: 'connection_lost', text: wordsOf(code), hint: null }
  }
}

/** Writes each failure once to the developer's console. @param warn silent in production */
export function createWarner(warn: (text: string, cause?: unknown) => void): (report: FailureReport) => void {
  const warned = new Set<Failure>()
  return ({ failure, text, hint, cause }) => {
    if (hint === null || warned.has(failure)) return
    warned.add(failure)
    const sentence = `Roomwire: ${text}. ${hint}`
    if (cause === undefined) warn(sentence)
    else warn(sentence, cause)
  }
}
