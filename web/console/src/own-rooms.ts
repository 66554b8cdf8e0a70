import { useCallback, useSyncExternalStore } from 'react'

const key = 'roomwire.own-rooms'
/** The most rooms of a person that this browser remembers. */
const roomsMax = 100

/** The rooms that this person has created in any tab of this browser: frames do not name the owner of a room. */
export function useOwnRooms(sub: string) {
  const stored = useSyncExternalStore(
    subscribe,
    useCallback(() => read(sub), [sub]),
  )
  const rooms = parse(stored)
  return {
    made: (channelId: string) => rooms.includes(channelId),
    remember: (channelId: string) => {
      // Read again: another tab may have created a room since.
      const before = parse(read(sub)).filter(each => each !== channelId)
      write(sub, JSON.stringify([channelId, ...before].slice(0, roomsMax)))
    },
  }
}

/** Used until the next reload if the browser forbids storage. */
const unstored = new Map<string, string>()
const listeners = new Set<() => void>()

function read(sub: string): string {
  const rooms = unstored.get(sub)
  if (rooms !== undefined) return rooms
  try {
    return localStorage.getItem(`${key}.${sub}`) ?? ''
  } catch {
    return ''
  }
}

function write(sub: string, rooms: string) {
  try {
    localStorage.setItem(`${key}.${sub}`, rooms)
    unstored.delete(sub)
  } catch {
    unstored.set(sub, rooms)
  }
  for (const call of listeners) call()
}

function subscribe(changed: () => void) {
  listeners.add(changed)
  // Changes of the other tabs.
  window.addEventListener('storage', changed)
  return () => {
    listeners.delete(changed)
    window.removeEventListener('storage', changed)
  }
}

function parse(stored: string): readonly string[] {
  try {
    const rooms: unknown = JSON.parse(stored || '[]')
    return Array.isArray(rooms) ? rooms.filter(room => typeof room === 'string') : []
  } catch {
    return []
  }
}
