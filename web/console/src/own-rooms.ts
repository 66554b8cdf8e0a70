import { useState } from 'react'

const key = 'roomwire.own-rooms'
/** Of so many rooms this tab remembers that it made them. */
const roomsMax = 100

/** The rooms that this tab has made: frames do not say whose a room is. */
export function useOwnRooms(sub: string) {
  const [rooms, setRooms] = useState(() => load(sub))
  return {
    made: (channelId: string) => rooms.includes(channelId),
    remember: (channelId: string) => {
      const next = [channelId, ...rooms].slice(0, roomsMax)
      setRooms(next)
      save(sub, next)
    },
  }
}

function load(sub: string): readonly string[] {
  try {
    const rooms: unknown = JSON.parse(sessionStorage.getItem(`${key}.${sub}`) ?? '[]')
    return Array.isArray(rooms) ? rooms.filter(room => typeof room === 'string') : []
  } catch {
    return []
  }
}

function save(sub: string, rooms: readonly string[]) {
  try {
    sessionStorage.setItem(`${key}.${sub}`, JSON.stringify(rooms))
  } catch {
    // A browser may forbid storage; then a reload forgets.
  }
}
