import type { Room } from './rooms.js'

/** The person whose token the hub has accepted. */
export interface Me {
  /** The subject, as the hub named it. It owns the rooms that this person creates. */
  readonly sub: string
  /** The person's Discord user id if `sub` is `discord:<user id>`; otherwise `null`. */
  readonly userId: string | null
}

/** The person of a subject. */
export function personOf(sub: string): Me {
  return { sub, userId: /^discord:([1-9]\d{0,18})$/.exec(sub)?.[1] ?? null }
}

/** Whether this person is a member of the room; false if the token does not name a Discord user. */
export function isHere(room: Pick<Room, 'members'>, me: Me | null): boolean {
  const userId = me?.userId ?? null
  return userId !== null && room.members.some(member => member.userId === userId)
}
