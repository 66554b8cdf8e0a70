/**
 * What a page stores over a reload: the rooms of each guild and their position, of one hub and one subject. Doubtful
 * content is dropped: then the page begins with a snapshot.
 */
import { isRecord, type RoomReport, readRooms, text } from './frames.js'
import type { Room } from './rooms.js'

/** The part of `Storage` that is used; `sessionStorage` ends with the tab. */
export type PersistedStorage = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>

/** One stored guild. When it is read, `Rooms` are reports: stored text may be incomplete. */
export interface PersistedGuild<Rooms = readonly RoomReport[]> {
  readonly guildId: string
  readonly pos: string
  /** The time until which the rooms were known to be right, milliseconds since 1970. */
  readonly asOf: number
  /** The chosen rooms that the position is valid for; `null`: all. */
  readonly choice: readonly string[] | null
  readonly rooms: Rooms
}

/** A guild of more characters is not stored. */
export const persistedGuildCharsMax = 262_144
/** The most characters of all guilds; the rest is not stored. A tab of a browser can store about 5 million. */
export const persistedCharsMax = 1_048_576
/** The longest age of stored rooms, milliseconds. A browser may restore a tab of last week with its storage. */
export const persistedMsMax = 3_600_000

const version = 2

/** The person that stored guilds belong to. */
export interface Owner {
  /** The subject, as the hub named it. */
  readonly sub: string
  /** The identity that the token named; `null` if it was no JWT. */
  readonly identity: string | null
}

/** Writes guilds, their owner and the time as a text. */
export function writePersisted(
  owner: Owner,
  guilds: readonly PersistedGuild<readonly Room[]>[],
  now: number,
): string {
  const written: string[] = []
  let chars = 0
  for (const guild of guilds) {
    const one = JSON.stringify({ ...guild, rooms: guild.rooms.map(reportOf) })
    if (one.length > persistedGuildCharsMax || chars + one.length > persistedCharsMax) continue
    chars += one.length
    written.push(one)
  }
  const { sub, identity } = owner
  const of = `"sub":${JSON.stringify(sub)},"identity":${JSON.stringify(identity)}`
  return `{"v":${version},${of},"at":${now},"guilds":[${written.join()}]}`
}

/**
 * Reads the guilds of a text. `owner` is a subject or an identity. `null` if the text is of another version or owner,
 * too old, or not complete.
 */
export function readPersisted(
  stored: string | null,
  owner: Pick<Owner, 'sub'> | { readonly identity: string },
  now: number,
): { readonly sub: string; readonly guilds: readonly PersistedGuild[] } | null {
  if (stored === null || stored.length > 2 * persistedCharsMax) return null
  try {
    const all: unknown = JSON.parse(stored)
    if (!isRecord(all) || all.v !== version || !Array.isArray(all.guilds)) return null
    const sub = text(all.sub)
    if (sub === undefined || ('sub' in owner ? sub !== owner.sub : all.identity !== owner.identity))
      return null
    const age = typeof all.at === 'number' ? now - all.at : Number.NaN
    // After the clock was set back, ages are unknown.
    if (!(age >= 0 && age <= persistedMsMax)) return null
    const guilds = all.guilds.map(readOne)
    if (!guilds.every(guild => guild !== null)) return null
    return { sub, guilds: guilds.filter(guild => guild.asOf <= now && guild.asOf >= now - persistedMsMax) }
  } catch {
    return null
  }
}

function readOne(guild: unknown): PersistedGuild | null {
  if (!isRecord(guild) || !Array.isArray(guild.rooms)) return null
  const guildId = text(guild.guildId)
  const pos = text(guild.pos)
  const { asOf, choice } = guild
  if (guildId === undefined || pos === undefined || typeof asOf !== 'number') return null
  if (choice !== null && !(Array.isArray(choice) && choice.every(id => typeof id === 'string'))) return null
  const rooms = readRooms(guild.rooms)
  // A guild with an unreadable room is not the whole state.
  return rooms.length === guild.rooms.length ? { guildId, pos, asOf, choice, rooms } : null
}

function reportOf(room: Room) {
  const members = room.members.map(({ displayName, avatarUrl, ...marks }) => ({
    ...marks,
    member: { displayName, avatarUrl },
  }))
  return { ...room, members }
}

/** Where the text is stored. If storage is forbidden or full, nothing is stored. */
export interface PersistedPlace {
  /** Reads and deletes the text, so that it is not shown again after a crash. */
  readonly take: () => string | null
  readonly put: (guilds: string) => void
  readonly clear: () => void
}

/** @param hub the hub's address; each hub has a key of its own */
export function persistedPlace(storage: PersistedStorage | undefined, hub: string): PersistedPlace {
  const key = `roomwire.kept ${hub}`
  function attempt<Answer>(what: (storage: PersistedStorage) => Answer): Answer | null {
    try {
      return storage ? what(storage) : null
    } catch {
      return null
    }
  }
  const clear = () => attempt(place => place.removeItem(key))
  return {
    take: () => {
      const stored = attempt(place => place.getItem(key))
      clear()
      return stored
    },
    put: guilds => {
      // The earlier text is outdated, also if this one cannot be stored.
      clear()
      attempt(place => place.setItem(key, guilds))
    },
    clear,
  }
}
