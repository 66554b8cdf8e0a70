import type { ComponentPropsWithoutRef } from 'react'
import type { Room } from '../rooms.js'

/** The properties of an `<a>`, except its address. */
export interface JoinLinkProps extends Omit<ComponentPropsWithoutRef<'a'>, 'href'> {
  readonly room: Pick<Room, 'joinUrl'>
}

/** A link that opens the room in Discord, in a new tab. Default content: "Join". */
export function JoinLink({ room, children = 'Join', ...anchor }: JoinLinkProps) {
  return (
    <a target="_blank" rel="noopener" {...anchor} href={room.joinUrl}>
      {children}
    </a>
  )
}
