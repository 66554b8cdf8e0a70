/**
 * What a page keeps over a reload: for each guild the rooms it showed and the position they belong to, of one hub
 * and one subject. Whatever is doubtful is nothing: the hub answers a page that knows nothing with a snapshot.
 */
import { isRecord, type RoomReport, readRooms, text } from './frames.js'
import type { Room } from './rooms.js'

/** The part of `Storage` that is used; `sessionStorage` ends with the tab. */
export type KeptStorage = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>

/** One guild as it is kept. `Rooms` are reports when they are read: what was stored is not trusted to be whole. */
export interface Kept<Rooms = readonly RoomReport[]> {
  readonly guildId: string
  readonly pos: string
  /** Until when this was known to be so, milliseconds since 1970. */
  readonly asOf: number
  /** The choice of rooms that it was seen through; `null`: all. */
  readonly choice: readonly string[] | null
  readonly rooms: Rooms
}

/** A guild of more characters is not kept. */
export const keptGuildCharsMax = 262_144
/** Guilds that would make it more characters than this are not kept; a browser's tab has place for about 5 million. */
export const keptCharsMax = 1_048_576
/** What is older is not shown any more, milliseconds: a browser may bring a tab of last week back, and what it kept. */
export const keptMsMax = 3_600_000

const version = 2

/** Whose guilds are kept. */
export interface Owner {
  /** The subject, as the hub named it. */
  readonly sub: string
  /** The identity that the token named; `null` if it was no JWT. */
  readonly identity: string | null
}

/** Guilds as a text, of whom and when. */
export function writeKept(owner: Owner, guilds: readonly Kept<readonly Room[]>[], now: number): string {
  const kept: string[] = []
  let chars = 0
  for (const guild of guilds) {
    const one = JSON.stringify({ ...guild, rooms: guild.rooms.map(reportOf) })
    if (one.length > keptGuildCharsMax || chars + one.length > keptCharsMax) continue
    chars += one.length
    kept.push(one)
  }
  const { sub, identity } = owner
  const of = `"sub":${JSON.stringify(sub)},"identity":${JSON.stringify(identity)}`
  return `{"v":${version},${of},"at":${now},"guilds":[${kept.join()}]}`
}

/**
 * What a text keeps of an owner whose subject, or whose identity, is `owner`'s; `null` if it is of another version,
 * owner or day, or odd in any way.
 */
export function readKept(
  kept: string | null,
  owner: Pick<Owner, 'sub'> | { readonly identity: string },
  now: number,
): { readonly sub: string; readonly guilds: readonly Kept[] } | null {
  if (kept === null || kept.length > 2 * keptCharsMax) return null
  try {
    const all: unknown = JSON.parse(kept)
    if (!isRecord(all) || all.v !== version || !Array.isArray(all.guilds)) return null
    const sub = text(all.sub)
    if (sub === undefined || ('sub' in owner ? sub !== owner.sub : all.identity !== owner.identity))
      return null
    const age = typeof all.at === 'number' ? now - all.at : Number.NaN
    // A clock that was set back makes every age a guess.
    if (!(age >= 0 && age <= keptMsMax)) return null
    const guilds = all.guilds.map(readOne)
    if (!guilds.every(guild => guild !== null)) return null
    return { sub, guilds: guilds.filter(guild => guild.asOf <= now && guild.asOf >= now - keptMsMax) }
  } catch {
    return null
  }
}

function readOne(guild: unknown): Kept | null {
  if (!isRecord(guild) || !Array.isArray(guild.rooms)) return null
  const guildId = text(guild.guildId)
  const pos = text(guild.pos)
  const { asOf, choice } = guild
  if (guildId === undefined || pos === undefined || typeof asOf !== 'number') return null
  if (choice !== null && !(Array.isArray(choice) && choice.every(id => typeof id === 'string'))) return null
  const rooms = readRooms(guild.rooms)
  // A room that can not be read would be missing from a state that calls itself whole.
  return rooms.length === guild.rooms.length ? { guildId, pos, asOf, choice, rooms } : null
}

function reportOf(room: Room) {
  const members = room.members.map(({ displayName, avatarUrl, ...marks }) => ({
    ...marks,
    member: { displayName, avatarUrl },
  }))
  return { ...room, members }
}

/** A place for the text. Storage may be forbidden or full: then nothing is kept. */
export interface KeptPlace {
  /** Reads and empties the place, so that what is shown once is not shown again after a crash. */
  readonly take: () => string | null
  readonly put: (kept: string) => void
  readonly empty: () => void
}

/** @param hub the hub's address: two hubs on one page do not see each other's */
export function keptPlace(storage: KeptStorage | undefined, hub: string): KeptPlace {
  const key = `roomwire.kept ${hub}`
  function attempt<Answer>(what: (storage: KeptStorage) => Answer): Answer | null {
    try {
      return storage ? what(storage) : null
    } catch {
      return null
    }
  }
  const empty = () => attempt(place => place.removeItem(key))
  return {
    take: () => {
      const kept = attempt(place => place.getItem(key))
      empty()
      return kept
    },
    put: kept => {
      // What was there before is older than this, also where this finds no place.
      empty()
      attempt(place => place.setItem(key, kept))
    },
    empty,
  }
}
