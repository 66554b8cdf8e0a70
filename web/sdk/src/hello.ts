/** The first frame of a connection, and how much the hub takes of it. */
import type { ClientFrame } from './wire/index.js'

export type Hello = Extract<ClientFrame, { type: 'auth' }>

/** The hub closes with 1009, for good, on a first frame of more bytes; the default of its UNAUTHENTICATED_MESSAGE_BYTES_MAX. */
export const firstFrameBytesMax = 12_288

/** What the hub accepts in a first frame beside its largest token, bytes. */
const besideTokenBytes = 4_096

/**
 * How many bytes a token has at most, the hub's JWT_BYTES_MAX, where the hub accepts first frames of `frameBytesMax`.
 * A smaller JWT_BYTES_MAX is allowed; this is never below 4,096.
 */
export function tokenBytesMax(frameBytesMax: number): number {
  return Math.max(frameBytesMax - besideTokenBytes, besideTokenBytes)
}

/** How many bytes a frame weighs on the wire. */
export function bytesOf(frame: object): number {
  return new TextEncoder().encode(JSON.stringify(frame)).length
}

/** How many bytes a first frame with this token has at least. */
export function leastBytesOf(token: string): number {
  return bytesOf({ type: 'auth', token, guilds: [] } satisfies Hello)
}
