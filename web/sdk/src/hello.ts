/** The first frame of a connection, and how much the hub takes of it. */
import type { ClientFrame } from './wire/index.js'

export type Hello = Extract<ClientFrame, { type: 'auth' }>

/** The hub closes with 1009, for good, on a first frame of more bytes. */
export const helloBytesMax = 4_096

/** How many bytes a frame weighs on the wire. */
export function bytesOf(frame: object): number {
  return new TextEncoder().encode(JSON.stringify(frame)).length
}
