import type { Member, Room } from '@roomwire/sdk'
import { useEndRoom } from './end-room.js'
import { Icon } from './icons.js'
import { useInvite } from './invite.js'
import { JoinRoom } from './join-room.js'
import { MemberRow } from './member-row.js'
import { Occupancy } from './occupancy.js'
import { leavingMs, useDelayedRemoval } from './use-delayed-removal.js'

interface RoomCardProps {
  readonly room: Room
  readonly mayEnd: boolean
  readonly mayInvite: boolean
  /** This person is in the room. */
  readonly here: boolean
  /** The rooms may be out of date. */
  readonly stale: boolean
  /** Removed, and visible for a moment. */
  readonly leaving: boolean
}

export function RoomCard({ room, mayEnd, mayInvite, here, stale, leaving }: RoomCardProps) {
  const members = useDelayedRemoval(room.members, keyOfMember, leavingMs())
  const end = useEndRoom(room, stale)
  const name = room.name === room.channelId ? 'Unnamed room' : room.name
  const invite = useInvite(room, name)
  const headingId = `room-${room.channelId}`
  return (
    <li
      className={['room', room.members.length > 0 && 'occupied', here && 'here', leaving && 'leaving']
        .filter(Boolean)
        .join(' ')}
      {...(leaving ? { 'aria-hidden': true } : { 'data-testid': 'room', 'data-channel-id': room.channelId })}
    >
      <article aria-labelledby={headingId}>
        <header className="room-head">
          <span className="room-sign">
            <Icon name="speaker" />
          </span>
          <div className="room-title">
            {here && !leaving && (
              <p className="here-mark" data-testid="here">
                {stale ? 'You were here' : 'You are here'}
              </p>
            )}
            <h3 id={headingId} title={name}>
              <bdi>{name}</bdi>
            </h3>
            <Occupancy here={room.members.length} limit={room.userLimit} />
          </div>
          {mayEnd && !leaving && end.button}
        </header>
        {!leaving && end.panel}
        {members.length > 0 ? (
          <ul className="members" aria-label={`In ${name}`}>
            {members.map(({ key, item, leaving }) => (
              <MemberRow key={key} member={item} leaving={leaving} />
            ))}
          </ul>
        ) : (
          <p className="nobody">{stale ? 'Nobody was here when last heard.' : 'Nobody here yet.'}</p>
        )}
        {!leaving && (
          <footer className="room-foot">
            <JoinRoom room={room} name={name} here={here} />
            {mayInvite && invite.button}
          </footer>
        )}
        {!leaving && mayInvite && invite.panel}
      </article>
    </li>
  )
}

const keyOfMember = (member: Member) => member.userId

/** A room that the hub has created and Discord has not reported yet. */
export function OpeningCard({ name }: { readonly name: string }) {
  return (
    <li className="room opening" aria-busy="true">
      <article>
        <header className="room-head">
          <span className="room-sign">
            <Icon name="speaker" />
          </span>
          <div className="room-title">
            <h3>
              <bdi>{name}</bdi>
            </h3>
            <p className="occupancy">opening…</p>
          </div>
        </header>
      </article>
    </li>
  )
}
