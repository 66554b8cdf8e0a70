import { createContext, type ReactNode, useEffect } from 'react'
import type { Roomwire } from '../client.js'

export const RoomwireContext = createContext<Roomwire | null>(null)

export interface RoomwireProviderProps {
  /** Created by `createRoomwire`, once, outside of any component. */
  readonly roomwire: Roomwire
  readonly children?: ReactNode
}

/** Connects while it is mounted, and provides `roomwire` to the hooks below it. */
export function RoomwireProvider({ roomwire, children }: RoomwireProviderProps) {
  useEffect(() => {
    roomwire.connect()
    return () => roomwire.close()
  }, [roomwire])
  return <RoomwireContext.Provider value={roomwire}>{children}</RoomwireContext.Provider>
}
