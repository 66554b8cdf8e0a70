/**
 * Parses frames of the hub into checked types. Unknown types, events and fields are ignored, because a hub may be
 * newer than the page.
 */
import type { GatewayState } from './wire/index.js'

/** The gateway's state in a frame. */
export interface GatewayReport {
  readonly state: GatewayState
  /** How long the state has lasted, milliseconds. */
  readonly ageMs: number
  readonly reason?: string
}

/** A room in a frame. Optional fields may be absent. */
export interface RoomReport {
  readonly channelId: string
  readonly name?: string
  readonly parentId?: string
  readonly userLimit?: number
  readonly joinUrl?: string
  readonly members: readonly VoiceReport[]
}

/** A member's voice state in a frame. Optional fields may be absent. */
export interface VoiceReport {
  readonly channelId: string
  readonly userId: string
  readonly displayName?: string
  readonly avatarUrl?: string
  readonly mute?: boolean
  readonly deaf?: boolean
  readonly selfMute?: boolean
  readonly selfDeaf?: boolean
  readonly selfVideo?: boolean
  readonly selfStream?: boolean
  readonly suppress?: boolean
}

/** A change of one guild. */
export type GuildChange =
  | {
      readonly kind: 'snapshot'
      readonly rooms: readonly RoomReport[]
      readonly gateway?: GatewayReport
      /** Counted from 1. */
      readonly part: number
      readonly of: number
    }
  | { readonly kind: 'room'; readonly room: RoomReport }
  | { readonly kind: 'room-gone'; readonly channelId: string }
  | { readonly kind: 'voice'; readonly voice: VoiceReport; readonly fresh: boolean }
  | { readonly kind: 'voice-gone'; readonly channelId: string; readonly userId: string }
  | { readonly kind: 'gateway'; readonly gateway: GatewayReport }
  /** An unknown or unreadable event; its number still counts. */
  | { readonly kind: 'other' }

/** A frame of the hub. */
export type Frame =
  | {
      readonly kind: 'auth.ok'
      readonly guilds: readonly string[]
      readonly sub: string
      readonly connectionId: string
      readonly expiresInMs: number | undefined
    }
  | {
      readonly kind: 'auth.refreshed'
      readonly expiresInMs: number | undefined
      /** All guilds that the newer token allows and the hub serves; `undefined` from an older hub. */
      readonly guilds: readonly string[] | undefined
    }
  | {
      readonly kind: 'subscribed'
      readonly guildId: string
      readonly recovered: boolean
      readonly pos: string | undefined
      /** Id of the frame that it answers; absent for the subscriptions of the auth frame. */
      readonly re: string | undefined
    }
  | { readonly kind: 'unsubscribed'; readonly guildId: string }
  | { readonly kind: 'pong' }
  | { readonly kind: 'draining'; readonly reconnectAfterMs: number | undefined }
  | {
      readonly kind: 'error'
      /** Time of the frame by the hub's clock, milliseconds since 1970. */
      readonly ts: number | undefined
      readonly code: string
      readonly message: string
      readonly retryAfterMs: number | undefined
      /** Id of the frame that it answers. */
      readonly re: string | undefined
    }
  | {
      readonly kind: 'change'
      readonly guildId: string
      readonly change: GuildChange
      readonly pos: string | undefined
      readonly n: number | undefined
    }

/** Parses one message; `null` for an unknown frame, or no frame. */
export function readFrame(message: unknown): Frame | null {
  if (typeof message !== 'string') return null
  let frame: unknown
  try {
    frame = JSON.parse(message)
  } catch {
    return null
  }
  if (!isRecord(frame)) return null
  switch (frame.type) {
    case 'ack':
      return readAck(frame)
    case 'event':
      return readEvent(frame)
    case 'notice':
      return frame.event === 'draining'
        ? { kind: 'draining', reconnectAfterMs: count(frame.reconnectAfterMs) }
        : null
    case 'error':
      return readError(frame)
    default:
      return null
  }
}

function readAck(frame: Fields): Frame | null {
  const guildId = text(frame.guildId)
  switch (frame.event) {
    case 'auth.ok':
      return {
        kind: 'auth.ok',
        guilds: texts(frame.guilds),
        sub: text(frame.sub) ?? '',
        connectionId: text(frame.connectionId) ?? '',
        expiresInMs: expiresInMs(frame),
      }
    case 'auth.refreshed':
      return {
        kind: 'auth.refreshed',
        expiresInMs: expiresInMs(frame),
        guilds: Array.isArray(frame.guilds) ? texts(frame.guilds) : undefined,
      }
    case 'subscribed':
      return guildId === undefined
        ? null
        : {
            kind: 'subscribed',
            guildId,
            recovered: frame.recovered === true,
            pos: text(frame.pos),
            re: correlation(frame.re),
          }
    case 'unsubscribed':
      return guildId === undefined ? null : { kind: 'unsubscribed', guildId }
    case 'pong':
      return { kind: 'pong' }
    default:
      return null
  }
}

/** The token's remaining life by the hub's clock, because this machine's clock may be wrong. */
function expiresInMs(frame: Fields): number | undefined {
  const expiresAt = count(frame.expiresAt)
  const ts = count(frame.ts)
  return expiresAt === undefined || ts === undefined ? undefined : Math.max(expiresAt - ts, 0)
}

function readError(frame: Fields): Frame {
  const error = isRecord(frame.error) ? frame.error : {}
  return {
    kind: 'error',
    ts: count(frame.ts),
    code: text(error.code) ?? 'INTERNAL',
    message: text(error.message) ?? '',
    retryAfterMs: count(error.retryAfterMs),
    re: correlation(frame.re),
  }
}

function readEvent(frame: Fields): Frame | null {
  const payload = isRecord(frame.payload) ? frame.payload : {}
  const guildId = text(frame.guildId) ?? text(payload.guildId)
  if (guildId === undefined) return null
  return {
    kind: 'change',
    guildId,
    change: readChange(frame.event, payload) ?? { kind: 'other' },
    pos: text(frame.pos),
    n: count(frame.n),
  }
}

function readChange(event: unknown, payload: Fields): GuildChange | null {
  switch (event) {
    case 'guild.snapshot':
      return readSnapshot(payload)
    case 'room.created':
    case 'room.updated': {
      const room = readRoom(payload)
      return room && { kind: 'room', room }
    }
    case 'room.deleted': {
      const channelId = text(payload.channelId)
      return channelId === undefined ? null : { kind: 'room-gone', channelId }
    }
    case 'voice.joined':
    case 'voice.state_changed': {
      const voice = readVoice(payload)
      return voice && { kind: 'voice', voice, fresh: event === 'voice.joined' }
    }
    case 'voice.left': {
      const voice = readVoice(payload)
      return voice && { kind: 'voice-gone', channelId: voice.channelId, userId: voice.userId }
    }
    case 'gateway.state': {
      const gateway = readGateway(payload)
      return gateway && { kind: 'gateway', gateway }
    }
    default:
      return null
  }
}

function readSnapshot(payload: Fields): GuildChange {
  const gateway = isRecord(payload.gateway) ? readGateway(payload.gateway) : null
  return {
    kind: 'snapshot',
    rooms: readRooms(payload.rooms),
    ...(gateway && { gateway }),
    part: count(payload.part) ?? 1,
    of: count(payload.of) ?? 1,
  }
}

/** The readable rooms of a list. */
export function readRooms(rooms: unknown): readonly RoomReport[] {
  if (!Array.isArray(rooms)) return []
  return rooms.map(room => (isRecord(room) ? readRoom(room) : null)).filter(room => room !== null)
}

function readRoom(payload: Fields): RoomReport | null {
  const channelId = text(payload.channelId)
  if (channelId === undefined) return null
  const members = Array.isArray(payload.members) ? payload.members : []
  return {
    channelId,
    members: members
      .map(member => (isRecord(member) ? readVoice(member, channelId) : null))
      .filter(voice => voice !== null),
    ...optional('name', text(payload.name)),
    ...optional('parentId', text(payload.parentId)),
    ...optional('userLimit', count(payload.userLimit)),
    ...optional('joinUrl', link(payload.joinUrl)),
  }
}

function readVoice(payload: Fields, channelId = text(payload.channelId)): VoiceReport | null {
  const userId = text(payload.userId)
  if (channelId === undefined || userId === undefined) return null
  const member = isRecord(payload.member) ? payload.member : {}
  return {
    channelId,
    userId,
    ...optional('displayName', text(member.displayName)),
    ...optional('avatarUrl', text(member.avatarUrl)),
    ...optional('mute', flag(payload.mute)),
    ...optional('deaf', flag(payload.deaf)),
    ...optional('selfMute', flag(payload.selfMute)),
    ...optional('selfDeaf', flag(payload.selfDeaf)),
    ...optional('selfVideo', flag(payload.selfVideo)),
    ...optional('selfStream', flag(payload.selfStream)),
    ...optional('suppress', flag(payload.suppress)),
  }
}

function readGateway(payload: Fields): GatewayReport | null {
  const state = payload.state
  if (state !== 'live' && state !== 'resuming' && state !== 'rebuilding' && state !== 'down') return null
  return { state, ageMs: count(payload.ageMs) ?? 0, ...optional('reason', text(payload.reason)) }
}

/** An unchecked JSON object. */
export type Fields = Readonly<Record<string, unknown>>

export function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A text that is not empty. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** An address that is safe in an `href`: never `javascript:`. */
export function link(value: unknown): string | undefined {
  return typeof value === 'string' && value.startsWith('https://') ? value : undefined
}

function correlation(value: unknown): string | undefined {
  return typeof value === 'number' ? String(value) : text(value)
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(each => typeof each === 'string') : []
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined
}

function flag(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

/** A field that is present only if it has a value. */
function optional<Name extends string, Value>(name: Name, value: Value | undefined): { [N in Name]?: Value } {
  return (value === undefined ? {} : { [name]: value }) as { [N in Name]?: Value }
}
