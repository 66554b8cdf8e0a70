import { useCallback, useSyncExternalStore } from 'react'

const key = 'roomwire.own-rooms'
/** Of so many rooms this browser remembers who made them, a person. */
const roomsMax = 100

/** The rooms that this person has made with this browser, in any of its tabs: frames do not say whose a room is. */
export function useOwnRooms(sub: string) {
  const stored = useSyncExternalStore(
    listen,
    useCallback(() => read(sub), [sub]),
  )
  const rooms = parse(stored)
  return {
    made: (channelId: string) => rooms.includes(channelId),
    remember: (channelId: string) => {
      // Read anew: another tab may have made one since.
      const before = parse(read(sub)).filter(each => each !== channelId)
      write(sub, JSON.stringify([channelId, ...before].slice(0, roomsMax)))
    },
  }
}

/** What a browser that forbids storage remembers until the next reload. */
const unstored = new Map<string, string>()
const listeners = new Set<() => void>()

function read(sub: string): string {
  const kept = unstored.get(sub)
  if (kept !== undefined) return kept
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

function listen(changed: () => void) {
  listeners.add(changed)
  // Tells of the other tabs.
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
