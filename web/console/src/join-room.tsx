import type { Room } from '@roomwire/sdk'
import { JoinLink } from '@roomwire/sdk/react'
import { Icon } from './icons.js'

interface JoinRoomProps {
  readonly room: Room
  /** The room's name, as it is shown. */
  readonly name: string
  /** This person is in the room. */
  readonly here: boolean
}

/** A link that opens the room in Discord. In a full room it is muted and stays: Discord lets moderators in. */
export function JoinRoom({ room, name, here }: JoinRoomProps) {
  const full = !here && room.userLimit > 0 && room.members.length >= room.userLimit
  const reasonId = `full-${room.channelId}`
  return (
    <>
      <JoinLink
        room={room}
        className={full || here ? 'join muted' : 'join'}
        data-testid="join"
        aria-label={here ? `Open ${name} in Discord` : `Join ${name} in Discord`}
        {...(full && { 'aria-describedby': reasonId })}
      >
        <Icon name="away" />
        {here ? 'Open' : 'Join'}
      </JoinLink>
      {full && (
        <span className="hint" id={reasonId}>
          No free place
        </span>
      )}
    </>
  )
}
