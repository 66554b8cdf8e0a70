/**
 * One guild as one subscription after the other tells it. Pure: what came and the time in, the next state out.
 * States are never changed, and what stays equal stays the same object.
 */
import type { GatewayReport, GuildChange, RoomReport } from './frames.js'
import type { Kept } from './kept.js'
import { changeRooms, type Room, roomsTold } from './rooms.js'
import type { GatewayState } from './wire/index.js'

/** How well the hub follows Discord, and since when. */
export interface Gateway {
  readonly state: GatewayState
  /** By this machine's clock, milliseconds since 1970. */
  readonly since: number
  readonly reason: string | null
}

/** Whether this page follows the guild. */
export type Following =
  /** The hub has not answered yet, or a snapshot is awaited. */
  | 'awaited'
  /** The hub has no place for the subscription now, and is asked again by itself. */
  | 'postponed'
  /** Every event arrives. */
  | 'live'
  /** The connection is gone; what is shown is what was known. */
  | 'away'
  /** The hub refused the subscription, or ended it; nothing is shown any more. */
  | 'refused'

/** One guild, immutable. */
export interface Guild {
  readonly guildId: string
  readonly following: Following
  /** The rooms are known: an empty `rooms` means that there are none. */
  readonly loaded: boolean
  /** What is shown may be out of date: not followed live, or the gateway is not live, or not known to be. */
  readonly stale: boolean
  /**
   * Until when what is shown was known to be so, by this machine's clock, milliseconds since 1970. `null` while it
   * is known to be so now, while nothing is shown, and where nobody can say: a hub that has just started, and has
   * not heard of its worker or not been told the guild, does not know how old what it stored is.
   */
  readonly staleSince: number | null
  /** As the hub told it over the present subscription; `null` until it has. */
  readonly gateway: Gateway | null
  readonly rooms: readonly Room[]
}

/** A guild with what only the client needs to know of it. */
export interface GuildTrack {
  readonly guild: Guild
  /** Where to continue from: the position of what `guild.rooms` shows, and never of anything newer. */
  readonly pos: string | undefined
  /** The number of the last frame taken; `undefined` if the next may have any. */
  readonly n: number | undefined
  /** A snapshot that is not whole yet. */
  readonly partial: PartialSnapshot | null
  /** Holes that were seen, without a stretch of good frames since. */
  readonly gaps: number
}

type SnapshotPart = Extract<GuildChange, { kind: 'snapshot' }>

interface PartialSnapshot {
  readonly parts: number
  readonly of: number
  readonly n: number | undefined
  readonly rooms: readonly RoomReport[]
}

/** A snapshot comes in at most so many parts; the hub cuts at 64 KiB, and no guild fills 16 MiB. */
export const snapshotPartsMax = 256

/** After so many frames without a hole, the holes before are forgiven. */
export const framesToForgive = 100

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

/** A guild as it was kept: to be seen as of then, and to be continued from. */
export function keptGuild(kept: Kept): GuildTrack {
  const track = unknownGuild(kept.guildId, 'away')
  const rooms = roomsTold(track.guild, kept.rooms)
  return { ...track, guild: settle(track.guild, { loaded: true, rooms }, kept.asOf), pos: kept.pos }
}

/** A subscription was asked for: until it is answered, nothing is known to be so. */
export function awaitAnswer(track: GuildTrack, now: number): GuildTrack {
  return { ...track, guild: settle(track.guild, { following: 'awaited' }, now), n: undefined, partial: null }
}

/** The hub could not take the subscription, and is asked again later. */
export function postpone(track: GuildTrack, now: number): GuildTrack {
  return {
    ...track,
    guild: settle(track.guild, { following: 'postponed' }, now),
    n: undefined,
    partial: null,
  }
}

/** The connection is gone, and with it what the hub said of the gateway. @param heardAt when it was last heard */
export function leave(track: GuildTrack, heardAt: number): GuildTrack {
  const guild = settle(track.guild, { following: 'away', gateway: null }, heardAt)
  return { ...track, guild, n: undefined, partial: null }
}

/**
 * The subscription begins. Recovered, what was missed follows on what is known, the first frame with number 1; else
 * a snapshot follows, and until it is here, what is known keeps the position that it has.
 * The gateway's state is told anew in either case: until then nothing is known to be so.
 */
export function begin(
  track: GuildTrack,
  recovered: boolean,
  pos: string | undefined,
  now: number,
): GuildTrack {
  const guild = settle(track.guild, { following: recovered ? 'live' : 'awaited', gateway: null }, now)
  return recovered
    ? { ...track, guild, pos: pos ?? track.pos, n: 0, partial: null }
    : { ...track, guild, n: beforeSnapshot, partial: null }
}

/** The number before a snapshot's: with a subscription that is not recovered, nothing but its snapshot comes first. */
const beforeSnapshot = -1

/**
 * Takes one change in.
 *
 * @returns the next track, or `'gap'` if something is missing before this one
 */
export function take(
  track: GuildTrack,
  change: GuildChange,
  pos: string | undefined,
  n: number | undefined,
  now: number,
): GuildTrack | 'gap' {
  if (track.guild.following === 'refused') return track
  if (change.kind === 'gateway') return { ...track, guild: hearGateway(track.guild, change.gateway, now) }
  // What is not known and not counted says nothing about what is missing.
  if (change.kind === 'other' && n === undefined) return track
  if (change.kind === 'snapshot') return takeSnapshot(track, change, pos, n, now)
  // Nothing comes between the parts of one snapshot.
  if (track.partial) return 'gap'
  // Whatever comes before the answer belongs to another subscription.
  if (track.guild.following !== 'live' && track.n !== beforeSnapshot) return track
  if (n !== undefined && track.n !== undefined && n !== track.n + 1) return 'gap'
  const rooms = changeRooms(track.guild, change)
  return {
    ...track,
    guild: rooms === track.guild.rooms ? track.guild : { ...track.guild, rooms },
    pos: pos ?? track.pos,
    n: n ?? track.n,
    gaps: n !== undefined && n >= framesToForgive ? 0 : track.gaps,
  }
}

/** How a hole is mended. */
export type Mending = 'recover' | 'snapshot' | 'connection'

/**
 * Something is missing. The last position was received in order, so the first hole is mended from there; a hub that
 * leaves the next one is asked for a snapshot, and one that spoils that too gets a new connection, with its backoff.
 */
export function mend(track: GuildTrack, now: number): { track: GuildTrack; by: Mending } {
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
  // The last part alone carries the position of what is shown then.
  const fits = partial && part.part === partial.parts + 1 && part.of === partial.of && n === partial.n
  if (part.of > snapshotPartsMax || !(first || fits)) return 'gap'
  // Told with the first part; what was told since then is newer than what the other parts repeat.
  const guild = first && part.gateway ? hearGateway(track.guild, part.gateway, now) : track.guild
  const rooms = first || !partial ? part.rooms : [...partial.rooms, ...part.rooms]
  if (part.part < part.of) {
    // The hub has something else to tell than what is shown.
    const awaited = settle(guild, { following: 'awaited' }, now)
    return {
      ...track,
      guild: awaited,
      n: undefined,
      partial: { parts: part.part, of: part.of, n, rooms },
    }
  }
  const staleSince = guild.gateway ? knownUntil(guild.gateway) : now
  const whole = { following: 'live', loaded: true, staleSince, rooms: roomsTold(guild, rooms) } as const
  return {
    ...track,
    guild: settle(guild, whole, now),
    pos,
    n,
    partial: null,
  }
}

function hearGateway(guild: Guild, report: GatewayReport, now: number): Guild {
  const gateway = gatewaySince(guild, report, now)
  // The first word over a subscription that goes on from what is known: all of it was so until then.
  const caughtUp = guild.following === 'live' && guild.gateway === null
  const staleSince = caughtUp ? knownUntil(gateway) : null
  return settle(guild, { gateway, ...(staleSince !== null && { staleSince }) }, gateway.since)
}

/** Until when what the hub has was known to be so, if this is how its gateway is; `null` if that does not say. */
function knownUntil({ reason, since }: Gateway): number | null {
  return reason === 'no_worker' || reason === 'not_told' ? null : since
}

function gatewaySince(guild: Guild, report: GatewayReport, now: number): Gateway {
  const before = guild.gateway
  const reason = report.reason ?? null
  // The same state told again keeps its beginning: ages are rounded, and a page must not flicker.
  if (before && before.state === report.state && before.reason === reason) return before
  // An age of more than the clock itself is no date.
  return { state: report.state, since: Math.max(now - report.ageMs, 0), reason }
}

/**
 * Applies a change, and what follows from it.
 *
 * @param at since when it is stale, if this makes it so. What was stale before is as old as it was, unless the change
 * says otherwise
 */
function settle(guild: Guild, change: Partial<Guild>, at: number): Guild {
  const changed = { ...guild, ...change }
  const stale = !changed.loaded || changed.following !== 'live' || changed.gateway?.state !== 'live'
  const wasShownStale = guild.loaded && guild.stale
  const since = wasShownStale || 'staleSince' in change ? changed.staleSince : at
  const next = { ...changed, stale, staleSince: stale && changed.loaded ? since : null }
  return (Object.keys(next) as (keyof Guild)[]).every(name => next[name] === guild[name]) ? guild : next
}
