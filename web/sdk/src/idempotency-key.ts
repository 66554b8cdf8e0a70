/**
 * A fresh random key for `createRoom`. Keep it where your page finds it again, to continue the same creation after a
 * reload.
 */
export function newIdempotencyKey(): string {
  // Pages over http to another machine have no `randomUUID`, and React Native has no `crypto`.
  const crypto = globalThis.crypto as Partial<Crypto> | undefined
  if (crypto?.randomUUID) return crypto.randomUUID()
  const bytes = new Uint8Array(16)
  if (crypto?.getRandomValues) crypto.getRandomValues(bytes)
  // The key must be unique among those of one person. It is no secret.
  else bytes.set(Array.from(bytes, () => Math.random() * 256))
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
}

/** Checks the key of the app, which becomes a header. Throws a `TypeError`. */
export function readIdempotencyKey(given: unknown): string {
  if (typeof given === 'string' && /^[\x21-\x7e]{1,255}$/.test(given)) return given
  throw new TypeError(
    'createRoom: idempotencyKey must have 1 to 255 visible ASCII characters, without spaces. newIdempotencyKey() makes one.',
  )
}
