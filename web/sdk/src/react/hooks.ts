import { useContext, useMemo, useSyncExternalStore } from 'react'
import type { Roomwire, RoomwireState } from '../client.js'
import type { Guild } from '../guild.js'
import type { Connection } from '../hub-connection.js'
import type { Me } from '../me.js'
import type { RoomActions } from '../rest.js'
import type { Room } from '../rooms.js'
import { connectionOf, guildOf, meOf, roomOf, roomsOf } from '../selectors.js'
import { RoomwireContext } from './provider.js'

/** The `Roomwire` of the `RoomwireProvider` above. */
export function useRoomwire(): Roomwire {
  const roomwire = useContext(RoomwireContext)
  if (!roomwire) throw new Error('<RoomwireProvider> is missing above.')
  return roomwire
}

/** The rooms with their members, live; without an id, of all guilds. */
export function useRooms(guildId?: string): readonly Room[] {
  return useSelected(state => roomsOf(state, guildId))
}

/** One room, live; `undefined` while it is not known. */
export function useRoom(channelId: string): Room | undefined {
  return useSelected(state => roomOf(state, channelId))
}

/** One guild; without an id, the first one. */
export function useGuild(guildId?: string): Guild | undefined {
  return useSelected(state => guildOf(state, guildId))
}

/** The connection to the hub. */
export function useConnection(): Connection {
  return useSelected(connectionOf)
}

/** The person who is signed in; `null` until the hub has named the subject. `isHere(room, me)` finds their room. */
export function useMe(): Me | null {
  return useSelected(meOf)
}

/** The commands; the same functions for the same `Roomwire`. */
export function useRoomActions(): RoomActions {
  const { createRoom, endRoom, createInvite, joinRoom, listRooms } = useRoomwire()
  return useMemo(
    () => ({ createRoom, endRoom, createInvite, joinRoom, listRooms }),
    [createRoom, endRoom, createInvite, joinRoom, listRooms],
  )
}

function useSelected<Value>(select: (state: RoomwireState) => Value): Value {
  const roomwire = useRoomwire()
  const selected = () => select(roomwire.getState())
  return useSyncExternalStore(roomwire.onChange, selected, selected)
}
