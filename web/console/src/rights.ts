/** Hides buttons whose commands the hub would refuse. */
export interface Rights {
  readonly create: boolean
  /** Into any room that is not private. */
  readonly invite: boolean
  /** Rooms that this person made. */
  readonly endOwn: boolean
  /** Any room that Roomwire made. */
  readonly endAny: boolean
}

/** Parses a token's `scope` as the hub does: without a word for rooms, the three usual rights apply. */
export function rightsOf(scope: string): Rights {
  const words = scope.split(' ').filter(word => word.startsWith('rooms:'))
  if (words.length === 0) return { create: true, invite: true, endOwn: true, endAny: false }
  const endAny = words.includes('rooms:manage')
  const create = words.includes('rooms:create')
  return { create, invite: endAny || create, endOwn: endAny || words.includes('rooms:end'), endAny }
}

/** Unverified claims of a token: for display, not for decisions. */
export interface TokenClaims {
  readonly sub: string
  readonly scope: string
  /** When it expires, milliseconds since 1970; `null` if it does not say. */
  readonly expiresAt: number | null
  /** Issuer and audience; empty if the token does not name them. */
  readonly issuer: string
  readonly audience: string
}

/** Reads a JWT's claims; `null` for what is no JWT. */
export function readClaims(token: string): TokenClaims | null {
  const body = token.split('.')[1]
  if (body === undefined) return null
  try {
    const bytes = Uint8Array.from(atob(body.replace(/-/g, '+').replace(/_/g, '/')), char =>
      char.charCodeAt(0),
    )
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes))
    if (typeof claims !== 'object' || claims === null) return null
    const { sub, scope, exp, iss, aud } = claims as Readonly<Record<string, unknown>>
    return {
      sub: textOf(sub),
      scope: textOf(scope),
      expiresAt: typeof exp === 'number' ? exp * 1_000 : null,
      issuer: textOf(iss),
      audience: Array.isArray(aud) ? aud.map(textOf).join(', ') : textOf(aud),
    }
  } catch {
    return null
  }
}

function textOf(claim: unknown): string {
  return typeof claim === 'string' ? claim : ''
}
