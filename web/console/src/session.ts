import type { ConsoleConfig, GetToken } from '@roomwire/sdk'
import { wordsOfAgo } from './clock.js'
import { people } from './people.js'
import { type Rights, readClaims, rightsOf, type TokenClaims } from './rights.js'

/** Who is signed in, in this tab and until it is closed. */
export type Session =
  | { readonly kind: 'demo'; readonly sub: string }
  | { readonly kind: 'token'; readonly token: string }

/** The person who is signed in. */
export interface Signed {
  readonly sub: string
  readonly name: string
  readonly rights: Rights
  readonly getToken: GetToken
}

/**
 * @param onRefused called with the reason when the hub does not accept a pasted token, because the page has no other
 * @returns `null` if the session does not fit this hub
 */
export function signedOf(
  config: ConsoleConfig,
  session: Session,
  onRefused: (why: string) => void,
): Signed | null {
  const { signIn } = config
  if (session.kind === 'demo' && signIn.kind === 'demo') {
    const person = people.find(each => each.sub === session.sub)
    if (!person) return null
    return {
      sub: person.sub,
      name: person.name,
      rights: rightsOf(person.scope),
      getToken: () => askIssuer(signIn.issuerUrl, person.sub, person.scope),
    }
  }
  if (session.kind === 'token' && signIn.kind === 'token') {
    const claims = readClaims(session.token)
    if (!claims) return null
    return {
      sub: claims.sub,
      name: claims.sub,
      rights: rightsOf(claims.scope),
      getToken: async wish => {
        if (wish === 'refused') onRefused(wordsOfRefused(claims))
        if (wish !== 'connect') throw new Error('There is no other token than the one that was pasted.')
        return session.token
      },
    }
  }
  return null
}

function wordsOfRefused(claims: TokenClaims): string {
  const { issuer, audience } = claims
  return (
    wordsOfExpiry(claims, Date.now()) ??
    `The hub does not accept this token. Its issuer is “${issuer}” and its audience is “${audience}”. Paste another one.`
  )
}

/** The message for a token that has expired by this machine's clock; `null` if it has not. */
export function wordsOfExpiry({ expiresAt }: TokenClaims, now: number): string | null {
  if (expiresAt === null || expiresAt > now) return null
  return `This token expired ${wordsOfAgo(now - expiresAt)}. Paste a newer one.`
}

/** Asks the demo's issuer for a token; rejects with words for people. */
export async function askIssuer(issuerUrl: string, sub: string, scope: string): Promise<string> {
  const response = await fetch(`${issuerUrl}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sub, scope }),
  }).catch(() => {
    throw new Error(
      `The issuer at ${issuerUrl} does not answer, or does not allow the origin ${window.location.origin}.`,
    )
  })
  if (!response.ok) throw new Error(`The issuer answered with status ${response.status}.`)
  const answer: unknown = await response.json().catch(() => null)
  const { token } = (answer ?? {}) as { token?: unknown }
  if (typeof token !== 'string') throw new Error(`What answers at ${issuerUrl} gave no token.`)
  return token
}

const key = 'roomwire.session'

/** The session of this tab; it survives a reload, and nothing else. */
export function loadSession(): Session | null {
  try {
    const session: unknown = JSON.parse(sessionStorage.getItem(key) ?? 'null')
    if (typeof session !== 'object' || session === null) return null
    const { kind, sub, token } = session as Record<string, unknown>
    if (kind === 'demo' && typeof sub === 'string') return { kind, sub }
    if (kind === 'token' && typeof token === 'string') return { kind, token }
    return null
  } catch {
    // A browser may forbid storage; then a reload signs out.
    return null
  }
}

export function saveSession(session: Session | null) {
  try {
    if (session) sessionStorage.setItem(key, JSON.stringify(session))
    else sessionStorage.removeItem(key)
  } catch {
    // As above.
  }
}

/** Where the SDK stores the rooms over a reload. It ends with the tab, and signing out clears it. */
export function tabStorage(): Storage | undefined {
  try {
    return sessionStorage
  } catch {
    // As above.
    return undefined
  }
}
