/**
 * One guild as its frames tell it. Pure: a frame and the time in, the next state out. States are never changed,
 * and what stays equal stays the same object, so that React compares by identity.
 */
import type { GatewayReport, GuildChange, RoomReport, VoiceReport } from './frames.js'
import type { GatewayState } from './wire/index.js'

/** A member in a voice room. */
export interface Member {
  /** Discord's id of the user. */
  readonly userId: string
  /** The name to show; the user's id until a name is known. */
  readonly displayName: string
  readonly avatarUrl: string | null
  /** Muted by a moderator. */
  readonly mute: boolean
  /** Deafened by a moderator. */
  readonly deaf: boolean
  readonly selfMute: boolean
  readonly selfDeaf: boolean
  /** Has the camera on. */
  readonly selfVideo: boolean
  /** Shares the screen. */
  readonly selfStream: boolean
  /** Is in the audience of a stage. */
  readonly suppress: boolean
}

/** A voice room. */
export interface Room {
  readonly guildId: string
  readonly channelId: string
  /** The name to show; the channel's id until a name is known. */
  readonly name: string
  /** The category's id. */
  readonly parentId: string | null
  /** How many may be in it; 0: as many as like. */
  readonly userLimit: number
  /** In the order in which they came. */
  readonly members: readonly Member[]
}

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
  /** Every event arrives. */
  | 'live'
  /** The connection is gone; what is shown is what was known. */
  | 'away'
  /** The hub refused the subscription. */
  | 'refused'

/** One guild, immutable. */
export interface Guild {
  readonly guildId: string
  readonly following: Following
  /** A snapshot has been seen: an empty `rooms` means that there are none. */
  readonly loaded: boolean
  /** What is shown may be out of date: not followed live, or the gateway is not live. */
  readonly stale: boolean
  readonly gateway: Gateway | null
  readonly rooms: readonly Room[]
}

/** A guild with what only the client needs to know of it. */
export interface GuildTrack {
  readonly guild: Guild
  /** The last position received: where to continue from. */
  readonly pos: string | undefined
  /** The last frame number received; `undefined` if the next may be any. */
  readonly n: number | undefined
  /** The parts of a snapshot that is not whole yet. */
  readonly parts: readonly SnapshotPart[]
}

type SnapshotPart = Extract<GuildChange, { kind: 'snapshot' }>

/** A snapshot comes in at most so many parts; the hub cuts at 64 KiB, and no guild fills 16 MiB. */
export const snapshotPartsMax = 256

/** A guild of which nothing is known yet. */
export function unknownGuild(guildId: string): GuildTrack {
  return {
    guild: { guildId, following: 'awaited', loaded: false, stale: true, gateway: null, rooms: [] },
    pos: undefined,
    n: undefined,
    parts: [],
  }
}

/** Enters another way of following; a new subscription may number its frames from anywhere. */
export function follow(track: GuildTrack, following: Following): GuildTrack {
  return { ...track, guild: settle(track.guild, { following }), n: undefined, parts: [] }
}

/** The hub has said from where this subscription continues. */
export function continueFrom(track: GuildTrack, pos: string | undefined): GuildTrack {
  return { ...track, pos: pos ?? track.pos }
}

/**
 * Takes one change in.
 *
 * @returns the next track, or `'gap'` if a frame is missing before this one: only a new snapshot helps
 */
export function take(
  track: GuildTrack,
  change: GuildChange,
  pos: string | undefined,
  n: number | undefined,
  now: number,
): GuildTrack | 'gap' {
  if (change.kind === 'gateway') {
    return {
      ...track,
      guild: settle(track.guild, { gateway: gatewaySince(track.guild, change.gateway, now) }),
    }
  }
  if (change.kind === 'snapshot') return takeSnapshot(track, change, pos, n, now)
  // Whatever comes before the snapshot is in the snapshot.
  if (track.guild.following !== 'live') return track
  if (n !== undefined && track.n !== undefined && n !== track.n + 1) return 'gap'
  const rooms = changeRooms(track.guild, change)
  return {
    ...track,
    guild: rooms === track.guild.rooms ? track.guild : { ...track.guild, rooms },
    pos: pos ?? track.pos,
    n: n ?? track.n,
    parts: [],
  }
}

function takeSnapshot(
  track: GuildTrack,
  part: SnapshotPart,
  pos: string | undefined,
  n: number | undefined,
  now: number,
): GuildTrack | 'gap' {
  const next = part.part === 1 ? 1 : track.parts.length + 1
  if (part.part !== next || part.of > snapshotPartsMax) return 'gap'
  const parts = part.part === 1 ? [part] : [...track.parts, part]
  if (part.part < part.of) return { ...track, parts }
  const told = parts.findLast(each => each.gateway)?.gateway
  return {
    guild: settle(track.guild, {
      following: 'live',
      loaded: true,
      rooms: roomsOf(
        track.guild,
        parts.flatMap(each => each.rooms),
      ),
      gateway: told ? gatewaySince(track.guild, told, now) : track.guild.gateway,
    }),
    pos: pos ?? track.pos,
    n,
    parts: [],
  }
}

function settle(guild: Guild, change: Partial<Guild>): Guild {
  const next = { ...guild, ...change }
  // `stale` follows from the rest.
  if ((Object.keys(change) as (keyof Guild)[]).every(name => next[name] === guild[name])) return guild
  const stale = !next.loaded || next.following !== 'live' || next.gateway?.state !== 'live'
  return { ...next, stale }
}

function gatewaySince(guild: Guild, report: GatewayReport, now: number): Gateway {
  const before = guild.gateway
  const reason = report.reason ?? null
  // The same state told again keeps its beginning: ages are rounded, and a page must not flicker.
  if (before && before.state === report.state && before.reason === reason) return before
  return { state: report.state, since: now - report.ageMs, reason }
}

function changeRooms(guild: Guild, change: GuildChange): readonly Room[] {
  const { rooms } = guild
  switch (change.kind) {
    case 'room':
      return withRoom(rooms, change.room.channelId, before =>
        reportedRoom(guild.guildId, change.room, before, before?.members ?? []),
      )
    case 'room-gone':
      return rooms.some(room => room.channelId === change.channelId)
        ? rooms.filter(room => room.channelId !== change.channelId)
        : rooms
    case 'voice':
      return withVoice(guild, change.voice, change.fresh)
    case 'voice-gone':
      return withoutMember(rooms, change.userId, room => room.channelId === change.channelId)
    default:
      return rooms
  }
}

/** Replaces one room, or adds it at the end. */
function withRoom(
  rooms: readonly Room[],
  channelId: string,
  change: (before: Room | undefined) => Room,
): readonly Room[] {
  const at = rooms.findIndex(room => room.channelId === channelId)
  if (at < 0) return [...rooms, change(undefined)]
  const before = rooms[at]
  const after = change(before)
  return before && sameRoom(before, after) ? rooms : rooms.with(at, after)
}

/** A voice state makes its room and its member known; nobody is in two rooms of one guild. */
function withVoice(guild: Guild, voice: VoiceReport, fresh: boolean): readonly Room[] {
  const known = findMember(guild.rooms, voice.userId)
  const elsewhere = withoutMember(guild.rooms, voice.userId, room => room.channelId !== voice.channelId)
  return withRoom(elsewhere, voice.channelId, room => {
    const before =
      room ?? reportedRoom(guild.guildId, { channelId: voice.channelId, members: [] }, undefined, [])
    const at = before.members.findIndex(member => member.userId === voice.userId)
    const member = reportedMember(voice, known, fresh)
    if (at < 0) return { ...before, members: [...before.members, member] }
    const same = before.members[at]
    if (same && sameMember(same, member)) return before
    return { ...before, members: before.members.with(at, member) }
  })
}

function withoutMember(
  rooms: readonly Room[],
  userId: string,
  where: (room: Room) => boolean,
): readonly Room[] {
  let changed = false
  const next = rooms.map(room => {
    if (!where(room) || !room.members.some(member => member.userId === userId)) return room
    changed = true
    return { ...room, members: room.members.filter(member => member.userId !== userId) }
  })
  return changed ? next : rooms
}

function findMember(rooms: readonly Room[], userId: string): Member | undefined {
  for (const room of rooms) {
    const member = room.members.find(each => each.userId === userId)
    if (member) return member
  }
  return undefined
}

/** The rooms of a snapshot; what equals the room or member known before is that same object. */
function roomsOf(guild: Guild, reports: readonly RoomReport[]): readonly Room[] {
  const before = new Map(guild.rooms.map(room => [room.channelId, room]))
  const rooms = new Map<string, Room>()
  for (const report of reports) {
    const known = before.get(report.channelId)
    const knownMembers = new Map(known?.members.map(member => [member.userId, member]))
    // A room may be cut over two parts: its members add up.
    const members = new Map(rooms.get(report.channelId)?.members.map(member => [member.userId, member]))
    for (const voice of report.members) {
      const seen = knownMembers.get(voice.userId)
      const member = reportedMember(voice, undefined, true)
      members.set(voice.userId, seen && sameMember(seen, member) ? seen : member)
    }
    const room = reportedRoom(guild.guildId, report, rooms.get(report.channelId), [...members.values()])
    rooms.set(report.channelId, known && sameRoom(known, room) ? known : room)
  }
  const next = [...rooms.values()]
  return sameItems(guild.rooms, next) ? guild.rooms : next
}

function reportedRoom(
  guildId: string,
  report: RoomReport,
  before: Room | undefined,
  members: readonly Member[],
): Room {
  return {
    guildId,
    channelId: report.channelId,
    name: report.name ?? before?.name ?? report.channelId,
    // A room outside of every category has none, so absence says something where a name's does not.
    parentId: report.parentId ?? null,
    userLimit: report.userLimit ?? before?.userLimit ?? 0,
    members,
  }
}

/** @param fresh the member has just come in: a flag that is not told is off, not what it was before */
function reportedMember(voice: VoiceReport, known: Member | undefined, fresh: boolean): Member {
  const before = fresh ? undefined : known
  return {
    userId: voice.userId,
    displayName: voice.displayName ?? known?.displayName ?? voice.userId,
    avatarUrl: voice.avatarUrl ?? known?.avatarUrl ?? null,
    mute: voice.mute ?? before?.mute ?? false,
    deaf: voice.deaf ?? before?.deaf ?? false,
    selfMute: voice.selfMute ?? before?.selfMute ?? false,
    selfDeaf: voice.selfDeaf ?? before?.selfDeaf ?? false,
    selfVideo: voice.selfVideo ?? before?.selfVideo ?? false,
    selfStream: voice.selfStream ?? before?.selfStream ?? false,
    suppress: voice.suppress ?? before?.suppress ?? false,
  }
}

function sameMember(a: Member, b: Member): boolean {
  return (
    a.userId === b.userId &&
    a.displayName === b.displayName &&
    a.avatarUrl === b.avatarUrl &&
    a.mute === b.mute &&
    a.deaf === b.deaf &&
    a.selfMute === b.selfMute &&
    a.selfDeaf === b.selfDeaf &&
    a.selfVideo === b.selfVideo &&
    a.selfStream === b.selfStream &&
    a.suppress === b.suppress
  )
}

function sameRoom(a: Room, b: Room): boolean {
  return (
    a.channelId === b.channelId &&
    a.name === b.name &&
    a.parentId === b.parentId &&
    a.userLimit === b.userLimit &&
    sameItems(a.members, b.members)
  )
}

function sameItems<Item>(a: readonly Item[], b: readonly Item[]): boolean {
  return a.length === b.length && a.every((item, at) => item === b[at])
}
