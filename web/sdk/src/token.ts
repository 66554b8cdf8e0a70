import type { Environment } from './environment.js'
import type { Failure, FailureReport } from './failure.js'
import { type Fields, isRecord, text } from './frames.js'

/** Why a token is wanted. */
export type TokenWish =
  /** For a connection or a request: any valid token. */
  | 'connect'
  /** The token in use expires soon: a newer one is needed. */
  | 'expiring'
  /** The token in use was refused: another one is needed. */
  | 'refused'

/**
 * Returns a token of the app's own session. White space around it is ignored. After a rejection, or a result that is no
 * token, the SDK calls again later.
 */
export type GetToken = (wish: TokenWish) => Promise<string>

/** Gets tokens from the app, and caches one until it expires by the word of the hub. */
export interface TokenSource {
  /** A token; the cached one only for `connect`. Calls at the same time share one answer. */
  readonly get: (wish: TokenWish) => Promise<string>
  /** `get` for the person who is signed in now: rejects after the page has signed out. */
  readonly ofPerson: () => (wish: TokenWish) => Promise<string>
  /** The hub accepted this token, which expires in `ms`. */
  readonly onAccepted: (token: string, ms: number) => void
  /** Drops the cached token. */
  readonly forget: () => void
  /**
   * The page signs out. Drops the cached token and the pending answers of `getToken`, whose callers get a rejection.
   * The next `get` calls the app.
   */
  readonly signOut: () => void
}

/** Why the app gave no token. */
export class TokenFailure extends Error {
  readonly report: FailureReport

  constructor(failure: Failure, text: string, hint: string | null, cause?: unknown) {
    super(text, { cause })
    this.name = 'TokenFailure'
    this.report = { failure, text, hint, ...(cause !== undefined && { cause }) }
  }
}

/** The time limit of `getToken`, milliseconds. The next `get` calls it again. */
export const tokenMsMax = 15_000

/** The cached token is not used this long before it expires, milliseconds. */
const marginMs = 30_000

/** @param onToken called with each token of the app, before `get` returns it */
export function tokenSource(
  getToken: GetToken,
  environment: Pick<Environment, 'now' | 'after'>,
  onToken: (token: string) => void = () => {},
): TokenSource {
  let known: { token: string; until: number } | null = null
  let asking: { wish: TokenWish; answer: Promise<string> } | null = null
  /** Rejects the pending calls of `getToken`. */
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
    const cancel = environment.after(tokenMsMax, () => giveUp(late()))
    const given = Promise.resolve()
      .then(() => getToken(wish))
      .catch(failed)
    const answer = Promise.race([given, withoutAnswer])
      .then(token => {
        const good = readToken(token)
        onToken(good)
        return good
      })
      .finally(() => {
        cancel()
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
        if (mine !== signOuts) throw signedOut()
      }
      return async wish => {
        signedIn()
        const token = await get(wish)
        signedIn()
        return token
      }
    },
    onAccepted: (token, ms) => {
      known = { token, until: environment.now() + ms - marginMs }
    },
    forget: () => {
      known = null
    },
    signOut: () => {
      known = asking = null
      signOuts++
      for (const giveUp of waits) giveUp(signedOut())
      waits.clear()
    },
  }
}

const signedOut = () => new TokenFailure('signed_out', 'the page signed out', null)

/** `getToken` did not answer in time. */
export const late = () =>
  new TokenFailure('token_late', 'getToken did not answer in time', 'Check the request that it waits for.')

function failed(cause: unknown): never {
  const why = cause instanceof Error ? cause.message || cause.name : String(cause)
  // A rejection without a value still has a cause.
  throw new TokenFailure(
    'token_failed',
    `getToken failed: ${why}`,
    'Check the request that it makes, and whether somebody is signed in.',
    cause ?? null,
  )
}

/** Checks the token of the app. RFC 6750 defines its characters. */
function readToken(given: unknown): string {
  if (typeof given !== 'string') throw malformed(given === null ? 'null' : `a value of type ${typeof given}`)
  const token = given.trim()
  if (token === '') throw malformed('an empty text')
  if (/^</.test(token)) throw malformed('an HTML page')
  if (/^[{["]/.test(token)) throw malformed('JSON', 'Parse it, and return the token alone.')
  if (/^bearer\s/i.test(token)) throw malformed('a header', 'Leave out "Bearer".')
  if (token === 'undefined' || token === 'null') throw malformed(`the text "${token}"`)
  if (!/^[\w.~+/-]+=*$/.test(token)) throw malformed('a text with characters that no token has')
  return token
}

function malformed(what: string, hint?: string): TokenFailure {
  return new TokenFailure(
    'token_malformed',
    `getToken gave ${what} instead of a token`,
    hint ?? 'Check the address of the token request, and reject where its answer is not ok.',
  )
}

/**
 * Why the hub may have refused this token, by its unverified claims.
 *
 * @param now by the hub's clock, if known
 * @param bytesMax the largest token that the hub probably accepts
 */
export function refusedToken(token: string, now: number, bytesMax: number): FailureReport {
  const claims = claimsOf(token)
  const [exp, nbf] = [secondsOf(claims?.exp), secondsOf(claims?.nbf)]
  if (exp !== undefined && exp * 1_000 <= now) {
    return {
      failure: 'token_expired',
      text: `the token expired ${Math.ceil(now / 1_000 - exp)} s ago`,
      hint: 'getToken must give a token that is still valid. Check for a cache, and the clock of this machine.',
    }
  }
  const early = nbf !== undefined && nbf * 1_000 > now
  // The time of a token is known. The limit of this hub is not.
  if (!early && token.length > bytesMax)
    return tooLargeToken(token.length, `a hub accepts ${bytesMax} unless it is set otherwise`)
  return {
    failure: 'token_invalid',
    text: early ? 'the hub does not accept the token yet' : 'the hub does not accept the token',
    hint: claims
      ? `The token has ${namesOf(claims)}. They must be JWT_ISSUER and JWT_AUDIENCE of the hub, and its key must be in the set at JWT_PUBLIC_JWK_URL.`
      : 'The token is no JWT. getToken must give a JSON Web Token.',
  }
}

/** The token is larger than the hub accepts. */
export function tooLargeToken(bytes: number, bound: string): FailureReport {
  return {
    failure: 'token_too_large',
    text: `the token has ${bytes} bytes, and ${bound}`,
    hint: 'Put fewer claims into the token; or raise JWT_BYTES_MAX and UNAUTHENTICATED_MESSAGE_BYTES_MAX of the hub, and firstFrameBytesMax here.',
  }
}

function secondsOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

function namesOf({ iss, aud }: Fields): string {
  return `iss ${JSON.stringify(iss) ?? 'absent'} and aud ${JSON.stringify(aud) ?? 'absent'}`
}

/**
 * The issuer and subject of a JWT as one text, unverified; `undefined` if the token has no subject. The subject in
 * `auth.ok` may have a prefix that the hub adds for that issuer.
 */
export function identityOf(token: string): string | undefined {
  const claims = claimsOf(token)
  const sub = text(claims?.sub)
  return sub === undefined ? undefined : JSON.stringify([text(claims?.iss) ?? null, sub])
}

/** The claims of a JWT, unverified; `undefined` if the token is no JWT. */
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
