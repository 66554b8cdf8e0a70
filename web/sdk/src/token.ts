import type { Environment } from './environment.js'
import { type Fields, isRecord, text } from './frames.js'
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
  /** `get` for the person who is signed in now: it rejects with `SignedOut` as soon as the page has signed out. */
  readonly ofPerson: () => (wish: TokenWish) => Promise<string>
  /** The hub took this token and said for how long it holds, milliseconds. */
  readonly holds: (token: string, ms: number) => void
  /** The hub did not take the remembered one. */
  readonly forget: () => void
  /**
   * The page signs out. The remembered token is dropped, and so are the answers that `getToken` still owes: those
   * waits reject with `SignedOut`. The next `get` asks the app.
   */
  readonly signOut: () => void
}

/** Why a token that was asked for did not come: the page signed out first. */
export class SignedOut extends Error {
  constructor() {
    super('The page signed out first.')
    this.name = 'SignedOut'
  }
}

/** An app that has not answered after this has no token to give, milliseconds; the next who asks, asks anew. */
export const tokenMsMax = 15_000

/** A token is not used any more this long before its end, milliseconds. */
const marginMs = 30_000

/** @param onToken called with each token that the app gives, before those who wait for it get it */
export function tokenSource(
  getToken: GetToken,
  environment: Pick<Environment, 'now' | 'after'>,
  onToken: (token: string) => void = () => {},
): TokenSource {
  let known: { token: string; until: number } | null = null
  let asking: { wish: TokenWish; answer: Promise<string> } | null = null
  /** Ends the waits for answers of `getToken`. */
  const waits = new Set<(reason: Error) => void>()
  let signOuts = 0

  function get(wish: TokenWish): Promise<string> {
    if (wish === 'refused') known = null
    if (wish === 'connect' && known && environment.now() < known.until) return Promise.resolve(known.token)
    if (asking && (asking.wish === wish || wish === 'connect')) return asking.answer
    let giveUp = (_: Error) => {}
    const withoutAnswer = new Promise<never>((_, reject) => {
      giveUp = reject
    })
    waits.add(giveUp)
    const callOff = environment.after(tokenMsMax, () => giveUp(new Error('getToken did not answer in time')))
    const given = Promise.resolve().then(() => getToken(wish))
    const answer = Promise.race([given, withoutAnswer])
      .then(token => {
        const good = usable(token)
        onToken(good)
        return good
      })
      .finally(() => {
        callOff()
        waits.delete(giveUp)
        if (asking?.answer === answer) asking = null
      })
    asking = { wish, answer }
    return answer
  }

  return {
    get,
    ofPerson: () => {
      const mine = signOuts
      const signedIn = () => {
        if (mine !== signOuts) throw new SignedOut()
      }
      return async wish => {
        signedIn()
        const token = await get(wish)
        signedIn()
        return token
      }
    },
    holds: (token, ms) => {
      known = { token, until: environment.now() + ms - marginMs }
    },
    forget: () => {
      known = null
    },
    signOut: () => {
      known = asking = null
      signOuts++
      for (const giveUp of waits) giveUp(new SignedOut())
      waits.clear()
    },
  }
}

/** What the hub would close a connection over for good (an error page, say) is no token. */
function usable(token: string): string {
  if (typeof token !== 'string' || token === '') throw new TypeError('getToken gave no token')
  if (bytesOf({ type: 'auth', token }) > helloBytesMax) throw new RangeError('the token is too long')
  return token
}

/**
 * Whom a JWT is for: its issuer and subject as one text, unproven; `undefined` if it does not say. The hub says in
 * `auth.ok` which subject it took the token for, perhaps with a prefix of its own for that issuer.
 */
export function identityOf(token: string): string | undefined {
  const claims = claimsOf(token)
  const sub = text(claims?.sub)
  return sub === undefined ? undefined : JSON.stringify([text(claims?.iss) ?? null, sub])
}

/** The claims of a JWT, unproven; `undefined` for a token that is none. */
function claimsOf(token: string): Fields | undefined {
  try {
    const body = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/')
    const claims: unknown = JSON.parse(
      new TextDecoder().decode(Uint8Array.from(atob(body), char => char.charCodeAt(0))),
    )
    return isRecord(claims) ? claims : undefined
  } catch {
    return undefined
  }
}
