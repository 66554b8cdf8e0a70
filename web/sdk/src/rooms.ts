/**
 * The rooms of one guild and their members. Pure: rooms and a change give the next rooms.
 * Nothing is changed in place. Equal rooms and members stay the same object, so that React compares by identity.
 */
import type { GuildChange, RoomReport, VoiceReport } from './frames.js'
import { joinUrlOf } from './join.js'

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
  /** The most members; 0: no limit. */
  readonly userLimit: number
  /** Opens the room in Discord. */
  readonly joinUrl: string
  /** In the order in which they joined. */
  readonly members: readonly Member[]
}

/** The rooms of one guild, and its id. */
export interface RoomsOfGuild {
  readonly guildId: string
  readonly rooms: readonly Room[]
}

/** The rooms after one change; the same array if nothing changed. */
export function changeRooms(guild: RoomsOfGuild, change: GuildChange): readonly Room[] {
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

/** The rooms of a snapshot. Rooms and members that are equal to known ones stay the same object. */
export function roomsOfSnapshot(guild: RoomsOfGuild, reports: readonly RoomReport[]): readonly Room[] {
  const before = new Map(guild.rooms.map(room => [room.channelId, room]))
  const rooms = new Map<string, Room>()
  for (const report of reports) {
    const known = before.get(report.channelId)
    const knownMembers = new Map(known?.members.map(member => [member.userId, member]))
    // A room may be split over two parts: their members are merged.
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

/** Adds the voice state, and its room if it is unknown. A user is in one room of a guild at most. */
function withVoice(guild: RoomsOfGuild, voice: VoiceReport, fresh: boolean): readonly Room[] {
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
    // Without `parentId` the room is in no category. Without `name` the name is unknown.
    parentId: report.parentId ?? null,
    userLimit: report.userLimit ?? before?.userLimit ?? 0,
    joinUrl: report.joinUrl ?? joinUrlOf(guildId, report.channelId),
    members,
  }
}

/** @param fresh the member has just joined: an absent flag is off, and does not keep its value */
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
    a.joinUrl === b.joinUrl &&
    sameItems(a.members, b.members)
  )
}

function sameItems<Item>(a: readonly Item[], b: readonly Item[]): boolean {
  return a.length === b.length && a.every((item, at) => item === b[at])
}
