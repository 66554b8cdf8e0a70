/** The first frame of a connection, and its size. */
import type { ClientFrame } from './wire/index.js'

export type AuthFrame = Extract<ClientFrame, { type: 'auth' }>

/** The default of the hub's UNAUTHENTICATED_MESSAGE_BYTES_MAX. On a larger first frame, the hub closes with 1009. */
export const firstFrameBytesMax = 12_288

/** The part of a first frame that is not reserved for the token, bytes. */
const besideTokenBytes = 4_096

/**
 * The largest token, the hub's JWT_BYTES_MAX, if the hub accepts first frames of `frameBytesMax`; at least 4,096.
 * The hub may have a smaller JWT_BYTES_MAX.
 */
export function tokenBytesMax(frameBytesMax: number): number {
  return Math.max(frameBytesMax - besideTokenBytes, besideTokenBytes)
}

/** The size of a frame on the wire, bytes. */
export function bytesOf(frame: object): number {
  return new TextEncoder().encode(JSON.stringify(frame)).length
}

/** The size of the smallest first frame with this token, bytes. */
export function authFrameBytesMin(token: string): number {
  return bytesOf({ type: 'auth', token, guilds: [] } satisfies AuthFrame)
}
