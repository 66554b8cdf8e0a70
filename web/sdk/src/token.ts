import type { Environment } from './environment.js'
import { isRecord, text } from './frames.js'
import { bytesOf, helloBytesMax } from './hello.js'

/** Why a token is wanted. */
export type TokenWish =
  /** For a connection or a request; a token that still holds will do. */
  | 'connect'
  /** The one in use ends soon: a younger one is needed. */
  | 'expiring'
  /** The one in use was refused: another one is needed. */
  | 'refused'

/**
 * Gives a token; the app's own session decides how. A rejection, or what is too long for a first frame
 * (4 KiB), counts as no token: it is tried again later.
 */
export type GetToken = (wish: TokenWish) => Promise<string>

/** Asks the app for tokens, and remembers one for as long as the hub said that it holds. */
export interface TokenSource {
  /** A token; the remembered one only for `connect`. Calls at the same time share one answer. */
  readonly get: (wish: TokenWish) => Promise<string>
  /** The hub took this token and said for how long it holds, milliseconds. */
  readonly holds: (token: string, ms: number) => void
  /** The hub did not take the remembered one. */
  readonly forget: () => void
}

/** An app that has not answered after this has no token to give, milliseconds; the next who asks, asks anew. */
export const tokenMsMax = 15_000

/** A token is not used any more this long before its end, milliseconds. */
const marginMs = 30_000

export function tokenSource(getToken: GetToken, environment: Environment): TokenSource {
  let known: { token: string; until: number } | null = null
  let asking: { wish: TokenWish; answer: Promise<string> } | null = null
  return {
    get: wish => {
      if (wish === 'refused') known = null
      if (wish === 'connect' && known && environment.now() < known.until) return Promise.resolve(known.token)
      if (asking && (asking.wish === wish || wish === 'connect')) return asking.answer
      let callOff = () => {}
      const tooLate = new Promise<never>((_, reject) => {
        callOff = environment.after(tokenMsMax, () => reject(new Error('getToken did not answer in time')))
      })
      const given = Promise.resolve().then(() => getToken(wish))
      const answer = Promise.race([given, tooLate])
        .then(usable)
        .finally(() => {
          callOff()
          if (asking?.answer === answer) asking = null
        })
      asking = { wish, answer }
      return answer
    },
    holds: (token, ms) => {
      known = { token, until: environment.now() + ms - marginMs }
    },
    forget: () => {
      known = null
    },
  }
}

/** What the hub would close a connection over for good (an error page, say) is no token. */
function usable(token: string): string {
  if (typeof token !== 'string' || token === '') throw new TypeError('getToken gave no token')
  if (bytesOf({ type: 'auth', token }) > helloBytesMax) throw new RangeError('the token is too long')
  return token
}

/** The subject that a JWT names, unproven: the hub says in `auth.ok` whom it took it for. */
export function subjectOf(token: string): string | undefined {
  try {
    const body = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/')
    const claims: unknown = JSON.parse(
      new TextDecoder().decode(Uint8Array.from(atob(body), char => char.charCodeAt(0))),
    )
    return isRecord(claims) ? text(claims.sub) : undefined
  } catch {
    return undefined
  }
}
