/**
 * The state of one guild over its subscriptions. Pure: a state, a change and the time give the next state.
 * States are immutable, and equal parts stay the same object.
 */
import type { GatewayReport, GuildChange, RoomReport } from './frames.js'
import type { PersistedGuild } from './persisted.js'
import { changeRooms, type Room, roomsOfSnapshot } from './rooms.js'
import type { GatewayState } from './wire/index.js'

/** Whether the hub follows Discord, and since when. */
export interface Gateway {
  readonly state: GatewayState
  /** By this machine's clock, milliseconds since 1970. */
  readonly since: number
  readonly reason: string | null
}

/** Whether this page follows the guild. */
export type Following =
  /** The hub has not answered yet, or a snapshot is pending. */
  | 'awaited'
  /** The hub has no capacity for the subscription now. The SDK subscribes again. */
  | 'retrying'
  /** Every event arrives. */
  | 'live'
  /** The connection is lost. The rooms are the last known ones. */
  | 'disconnected'
  /** The hub refused or ended the subscription. No rooms are shown. */
  | 'refused'

/** One guild, immutable. */
export interface Guild {
  readonly guildId: string
  readonly following: Following
  /** The rooms are known: an empty `rooms` means that the guild has none. */
  readonly loaded: boolean
  /** The rooms may be out of date: the guild is not followed live, or its gateway is not known to be live. */
  readonly stale: boolean
  /**
   * The time until which the rooms were known to be right, by this machine's clock, milliseconds since 1970. `null`
   * while they are known to be right, while none are loaded, and where the time is unknown: a hub that has just
   * started does not know the age of its stored rooms before its worker reports.
   */
  readonly staleSince: number | null
  /** As the hub reported it over this subscription; `null` before that. */
  readonly gateway: Gateway | null
  readonly rooms: readonly Room[]
}

/** A guild, and what only the client needs to follow it. */
export interface GuildTrack {
  readonly guild: Guild
  /** The position of `guild.rooms`, never a newer one. Recovery continues from it. */
  readonly pos: string | undefined
  /** The number of the last applied frame; `undefined` if the next frame may have any number. */
  readonly n: number | undefined
  /** The parts of a snapshot that is not complete yet. */
  readonly partial: PartialSnapshot | null
  /** Gaps since the last `framesToResetGaps` frames without one. */
  readonly gaps: number
}

type SnapshotPart = Extract<GuildChange, { kind: 'snapshot' }>

interface PartialSnapshot {
  readonly parts: number
  readonly of: number
  readonly n: number | undefined
  readonly rooms: readonly RoomReport[]
}

/** The most parts of a snapshot. The hub cuts at 64 KiB, and no guild needs 16 MiB. */
export const snapshotPartsMax = 256

/** After this many frames without a gap, `gaps` is reset. */
export const framesToResetGaps = 100

/** A guild of which nothing is known yet. */
export function unknownGuild(guildId: string, following: Following = 'awaited'): GuildTrack {
  return {
    guild: {
      guildId,
      following,
      loaded: false,
      stale: true,
      staleSince: null,
      gateway: null,
      rooms: [],
    },
    pos: undefined,
    n: undefined,
    partial: null,
    gaps: 0,
  }
}

/** A guild as it was stored: stale since then, with its position. */
export function persistedTrack(persisted: PersistedGuild): GuildTrack {
  const track = unknownGuild(persisted.guildId, 'disconnected')
  const rooms = roomsOfSnapshot(track.guild, persisted.rooms)
  return {
    ...track,
    guild: changeGuild(track.guild, { loaded: true, rooms }, persisted.asOf),
    pos: persisted.pos,
  }
}

/** After a `subscribe` frame: until its answer, the rooms are stale. */
export function awaitAnswer(track: GuildTrack, now: number): GuildTrack {
  return interrupt(track, { following: 'awaited' }, now)
}

/** The hub has no capacity for the subscription now. */
export function retryLater(track: GuildTrack, now: number): GuildTrack {
  return interrupt(track, { following: 'retrying' }, now)
}

/** The connection is lost. @param receivedAt when its last frame arrived */
export function disconnect(track: GuildTrack, receivedAt: number): GuildTrack {
  return interrupt(track, { following: 'disconnected', gateway: null }, receivedAt)
}

function interrupt(track: GuildTrack, change: Partial<Guild>, at: number): GuildTrack {
  return { ...track, guild: changeGuild(track.guild, change, at), n: undefined, partial: null }
}

/**
 * The subscription begins. If it is recovered, the missed events follow, the first with number 1. Otherwise a snapshot
 * follows, and until it is complete, rooms and position stay. In both cases the hub reports the gateway's state again.
 * Until then the rooms are stale.
 */
export function begin(
  track: GuildTrack,
  recovered: boolean,
  pos: string | undefined,
  now: number,
): GuildTrack {
  const guild = changeGuild(track.guild, { following: recovered ? 'live' : 'awaited', gateway: null }, now)
  return recovered
    ? { ...track, guild, pos: pos ?? track.pos, n: 0, partial: null }
    : { ...track, guild, n: beforeSnapshot, partial: null }
}

/** The number before a snapshot's: a subscription that is not recovered begins with its snapshot. */
const beforeSnapshot = -1

/**
 * Applies one change.
 *
 * @returns the next track, or `'gap'` if a frame is missing before this one
 */
export function applyChange(
  track: GuildTrack,
  change: GuildChange,
  pos: string | undefined,
  n: number | undefined,
  now: number,
): GuildTrack | 'gap' {
  if (track.guild.following === 'refused') return track
  if (change.kind === 'gateway') return { ...track, guild: applyGateway(track.guild, change.gateway, now) }
  // An unknown event without a number does not show a gap.
  if (change.kind === 'other' && n === undefined) return track
  if (change.kind === 'snapshot') return takeSnapshot(track, change, pos, n, now)
  // No other frame arrives between the parts of one snapshot.
  if (track.partial) return 'gap'
  // A frame before the answer belongs to an earlier subscription.
  if (track.guild.following !== 'live' && track.n !== beforeSnapshot) return track
  if (n !== undefined && track.n !== undefined && n !== track.n + 1) return 'gap'
  const rooms = changeRooms(track.guild, change)
  return {
    ...track,
    guild: rooms === track.guild.rooms ? track.guild : { ...track.guild, rooms },
    pos: pos ?? track.pos,
    n: n ?? track.n,
    gaps: n !== undefined && n >= framesToResetGaps ? 0 : track.gaps,
  }
}

/** How a gap is repaired. */
export type Repair = 'recover' | 'snapshot' | 'connection'

/**
 * A frame is missing. The last position was received in order, so the first gap is repaired by recovery from there,
 * the second by a snapshot, and the third by a new connection with backoff.
 */
export function repairGap(track: GuildTrack, now: number): { track: GuildTrack; by: Repair } {
  const by =
    track.gaps === 0 && track.pos !== undefined ? 'recover' : track.gaps <= 1 ? 'snapshot' : 'connection'
  const pos = by === 'recover' ? track.pos : undefined
  return { track: { ...awaitAnswer(track, now), pos, gaps: track.gaps + 1 }, by }
}

function takeSnapshot(
  track: GuildTrack,
  part: SnapshotPart,
  pos: string | undefined,
  n: number | undefined,
  now: number,
): GuildTrack | 'gap' {
  const { partial } = track
  const first = part.part === 1
  // Only the last part has the position of the snapshot.
  const fits = partial && part.part === partial.parts + 1 && part.of === partial.of && n === partial.n
  if (part.of > snapshotPartsMax || !(first || fits)) return 'gap'
  // Later parts repeat the state of the first part. It may be older than one that has arrived since.
  const guild = first && part.gateway ? applyGateway(track.guild, part.gateway, now) : track.guild
  const rooms = first || !partial ? part.rooms : [...partial.rooms, ...part.rooms]
  if (part.part < part.of) {
    // The rooms that are shown are outdated.
    const awaited = awaitAnswer({ ...track, guild }, now)
    return { ...awaited, partial: { parts: part.part, of: part.of, n, rooms } }
  }
  const staleSince = guild.gateway ? knownUntil(guild.gateway) : now
  const complete = {
    following: 'live',
    loaded: true,
    staleSince,
    rooms: roomsOfSnapshot(guild, rooms),
  } as const
  return { ...track, guild: changeGuild(guild, complete, now), pos, n, partial: null }
}

function applyGateway(guild: Guild, report: GatewayReport, now: number): Guild {
  const gateway = gatewaySince(guild, report, now)
  // The first report after a recovery: the rooms are right up to that time.
  const caughtUp = guild.following === 'live' && guild.gateway === null
  const staleSince = caughtUp ? knownUntil(gateway) : null
  return changeGuild(guild, { gateway, ...(staleSince !== null && { staleSince }) }, gateway.since)
}

/** The time until which the hub's rooms were known to be right in this state; `null` if unknown. */
function knownUntil({ reason, since }: Gateway): number | null {
  return reason === 'no_worker' || reason === 'not_told' ? null : since
}

function gatewaySince(guild: Guild, report: GatewayReport, now: number): Gateway {
  const before = guild.gateway
  const reason = report.reason ?? null
  // A repeated state keeps its `since`: ages are rounded, and a page must not flicker.
  if (before && before.state === report.state && before.reason === reason) return before
  // An age may be larger than the clock.
  return { state: report.state, since: Math.max(now - report.ageMs, 0), reason }
}

/**
 * Changes fields, and computes `stale` and `staleSince`.
 *
 * @param at `staleSince`, if the guild becomes stale by this change. A guild that was stale keeps its own, unless the
 * change has one
 */
function changeGuild(guild: Guild, change: Partial<Guild>, at: number): Guild {
  const changed = { ...guild, ...change }
  const stale = !changed.loaded || changed.following !== 'live' || changed.gateway?.state !== 'live'
  const wasShownStale = guild.loaded && guild.stale
  const since = wasShownStale || 'staleSince' in change ? changed.staleSince : at
  const next = { ...changed, stale, staleSince: stale && changed.loaded ? since : null }
  return (Object.keys(next) as (keyof Guild)[]).every(name => next[name] === guild[name]) ? guild : next
}
