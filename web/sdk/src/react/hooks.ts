import { useContext, useMemo, useSyncExternalStore } from 'react'
import type { Roomwire, RoomwireState } from '../client.js'
import type { Guild } from '../guild.js'
import type { Connection } from '../line.js'
import type { RoomActions } from '../rest.js'
import type { Room } from '../rooms.js'
import { connectionOf, guildOf, roomOf, roomsOf } from '../selectors.js'
import { RoomwireContext } from './provider.js'

/** The line itself, of the `RoomwireProvider` above. */
export function useRoomwire(): Roomwire {
  const roomwire = useContext(RoomwireContext)
  if (!roomwire) throw new Error('There is no <RoomwireProvider> above this component.')
  return roomwire
}

/** The rooms with who is in them, live; without an id, of all guilds. */
export function useRooms(guildId?: string): readonly Room[] {
  return useLook(state => roomsOf(state, guildId))
}

/** One room, live; `undefined` while it is not known. */
export function useRoom(channelId: string): Room | undefined {
  return useLook(state => roomOf(state, channelId))
}

/** One guild: is it loaded, is it stale, what does its gateway do; without an id, the first one. */
export function useGuild(guildId?: string): Guild | undefined {
  return useLook(state => guildOf(state, guildId))
}

/** The connection to the hub. */
export function useConnection(): Connection {
  return useLook(connectionOf)
}

/** The commands; the same functions for as long as the line is the same. */
export function useRoomActions(): RoomActions {
  const { createRoom, endRoom, listRooms } = useRoomwire()
  return useMemo(() => ({ createRoom, endRoom, listRooms }), [createRoom, endRoom, listRooms])
}

function useLook<Value>(look: (state: RoomwireState) => Value): Value {
  const roomwire = useRoomwire()
  const seen = () => look(roomwire.getState())
  return useSyncExternalStore(roomwire.listen, seen, seen)
}
