/** Parts of a state. Each function returns the same object while that part is the same. */
import type { RoomwireState } from './client.js'
import type { Guild } from './guild.js'
import type { Connection } from './hub-connection.js'
import type { Me } from './me.js'
import type { Room } from './rooms.js'

export function connectionOf(state: RoomwireState): Connection {
  return state.connection
}

/** The person who is signed in; `null` until the hub has named the subject. */
export function meOf(state: RoomwireState): Me | null {
  return state.me
}

/** The guild; without an id, the first one. */
export function guildOf(state: RoomwireState, guildId?: string): Guild | undefined {
  return guildId === undefined ? state.guilds.values().next().value : state.guilds.get(guildId)
}

/** The rooms of a guild; without an id, of all guilds, one after the other. */
export function roomsOf(state: RoomwireState, guildId?: string): readonly Room[] {
  if (guildId !== undefined) return state.guilds.get(guildId)?.rooms ?? none
  const { guilds } = state
  if (guilds.size <= 1) return guildOf(state)?.rooms ?? none
  const known = joined.get(guilds)
  if (known) return known
  const rooms = [...guilds.values()].flatMap(guild => guild.rooms)
  joined.set(guilds, rooms)
  return rooms
}

export function roomOf(state: RoomwireState, channelId: string): Room | undefined {
  for (const guild of state.guilds.values()) {
    const room = guild.rooms.find(each => each.channelId === channelId)
    if (room) return room
  }
  return undefined
}

const none: readonly Room[] = []
const joined = new WeakMap<object, readonly Room[]>()
