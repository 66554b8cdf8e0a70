import { type Connection, type CreatedRoom, type Guild, isHere, type Room } from '@roomwire/sdk'
import { useConnection, useMe, useRooms } from '@roomwire/sdk/react'
import { useEffect, useMemo, useState } from 'react'
import { Avatar } from './avatar.js'
import { CreateRoom } from './create-room.js'
import { useLeastHealthyGuild } from './guild-health.js'
import { Icon, Mark } from './icons.js'
import { useOwnRooms } from './own-rooms.js'
import { OpeningCard, RoomCard } from './room-card.js'
import type { Signed } from './session.js'
import { StaleNote, wordsOfStaleness } from './stale-note.js'
import { ConnectionNote, Status } from './status.js'
import { ThemeButton } from './theme.js'
import { leavingMs, useDelayedRemoval } from './use-delayed-removal.js'

interface RoomsPageProps {
  readonly signed: Signed
  readonly onSignOut: () => void
}

export function RoomsPage({ signed, onSignOut }: RoomsPageProps) {
  return (
    <>
      <header className="bar">
        <div className="bar-in">
          <a className="brand" href="/">
            <Mark />
            <span>Roomwire</span>
          </a>
          <Status />
          <div className="who">
            <ThemeButton />
            <Avatar id={signed.sub} name={signed.name} />
            <span className="who-name">{signed.name}</span>
            <button
              type="button"
              className="quiet round"
              data-testid="sign-out"
              onClick={onSignOut}
              aria-label="Sign out"
              title="Sign out"
            >
              <Icon name="leave" />
            </button>
          </div>
        </div>
      </header>
      <main className="page">
        <Rooms signed={signed} />
      </main>
    </>
  )
}

function Rooms({ signed }: { readonly signed: Signed }) {
  const guild = useLeastHealthyGuild()
  const stale = guild?.stale ?? true
  const connection = useConnection()
  const rooms = useRooms()
  const me = useMe()
  const own = useOwnRooms(signed.sub)
  const [opening, setOpening] = useState<readonly CreatedRoom[]>([])
  const [news, setNews] = useState('')
  const sorted = useMemo(() => {
    const byAgeAfterMine = (a: Room, b: Room) => Number(isHere(b, me)) - Number(isHere(a, me)) || byAge(a, b)
    return [...rooms].sort(byAgeAfterMine)
  }, [rooms, me])
  const cards = useDelayedRemoval(sorted, keyOfRoom, leavingMs())
  const awaited = opening.filter(each => !rooms.some(room => room.channelId === each.channelId))
  const { rights } = signed

  // A room that was shown once is not opening any more, also if it is removed again.
  useEffect(() => {
    const seen = new Set(rooms.map(room => room.channelId))
    setOpening(before =>
      before.some(room => seen.has(room.channelId))
        ? before.filter(room => !seen.has(room.channelId))
        : before,
    )
  }, [rooms])
  useEffect(() => {
    // While the rooms are stale, the room may exist unseen.
    if (opening.length === 0 || stale) return
    // Discord reports a room at once or never.
    const timer = setTimeout(() => setOpening([]), openingMsMax)
    return () => clearTimeout(timer)
  }, [opening, stale])

  function created(room: CreatedRoom) {
    own.remember(room.channelId)
    setOpening(before => [...before, room])
    setNews(`${room.name} is open.`)
  }

  return (
    <>
      <div className="top">
        <div>
          <h1>Voice rooms</h1>
          <p className="lead">
            {guild?.loaded ? summaryOf(rooms, freshnessOf(guild)) : wordsBeforeRooms(connection, guild)}
          </p>
        </div>
        {rights.create ? (
          <CreateRoom onCreated={created} />
        ) : (
          <p className="aside">You are watching. Opening rooms takes another person.</p>
        )}
      </div>
      <p className="unseen" aria-live="polite">
        {news}
      </p>
      <ConnectionNote />
      <div>
        {guild?.loaded && stale && <StaleNote guild={guild} />}
        {guild?.loaded && cards.length + awaited.length === 0 ? (
          <Empty mayCreate={rights.create} freshness={freshnessOf(guild)} />
        ) : (
          <ul className={guild?.loaded && stale ? 'rooms stale' : 'rooms'} aria-label="Rooms">
            {cards.map(({ key, item, leaving }) => (
              <RoomCard
                key={key}
                room={item}
                leaving={leaving}
                stale={stale}
                here={isHere(item, me)}
                mayInvite={rights.invite}
                mayEnd={rights.endAny || (rights.endOwn && own.made(item.channelId))}
              />
            ))}
            {awaited.map(room => (
              <OpeningCard key={room.channelId} name={room.name} />
            ))}
            {!guild?.loaded && mayCome(connection, guild) && <Skeletons />}
          </ul>
        )}
      </div>
    </>
  )
}

/** How long the card of a room that Discord has not reported is shown, milliseconds. */
const openingMsMax = 10_000

const keyOfRoom = (room: Room) => room.channelId

/** Ids of Discord grow with time. */
function byAge(a: Room, b: Room): number {
  return a.channelId.length - b.channelId.length || (a.channelId < b.channelId ? -1 : 1)
}

/** Whether rooms may still arrive. */
function mayCome(connection: Connection, guild: Guild | undefined): boolean {
  return connection.state === 'open'
    ? guild !== undefined && guild.following !== 'refused'
    : connection.state !== 'closed'
}

function wordsBeforeRooms(connection: Connection, guild: Guild | undefined): string {
  if (guild?.following === 'retrying') return wordsOfStaleness(connection, guild)
  if (mayCome(connection, guild)) return 'Asking for the rooms…'
  return connection.state === 'open'
    ? 'You are signed in, but not for any guild that is shown here.'
    : 'This page is not connected to the hub.'
}

/** The rooms are right now; or they were at a known time; or at an unknown time. */
type Freshness = 'fresh' | 'dated' | 'undated'

function freshnessOf(guild: Guild): Freshness {
  if (!guild.stale) return 'fresh'
  return guild.staleSince === null ? 'undated' : 'dated'
}

export function summaryOf(rooms: readonly Room[], freshness: Freshness): string {
  const people = rooms.reduce((sum, room) => sum + room.members.length, 0)
  const busy = rooms.filter(room => room.members.length > 0).length
  const when = freshness === 'fresh' ? '.' : ' when last heard.'
  if (rooms.length === 0) return emptyWords[freshness].summary
  if (people === 0) return `All quiet${when}`
  const where = `${people === 1 ? 'One person' : `${people} people`} in ${busy === 1 ? 'one room' : `${busy} rooms`}`
  return where + (freshness === 'fresh' ? ' right now.' : when)
}

const emptyWords = {
  fresh: { summary: 'No room is open.', title: 'It is quiet here' },
  dated: { summary: 'No room was open when last heard.', title: 'It was quiet here' },
  undated: { summary: 'No room is known yet.', title: 'Nothing is known yet' },
}

interface EmptyProps {
  readonly mayCreate: boolean
  readonly freshness: Freshness
}

function Empty({ mayCreate, freshness }: EmptyProps) {
  const words = {
    fresh: mayCreate
      ? 'No voice room is open. Open the first one above, and it will be in Discord a moment later.'
      : 'No voice room is open. As soon as somebody opens one, it will be here.',
    dated: 'No voice room was open when last heard.',
    undated: 'The hub has heard of no room. As soon as it does, it will be here.',
  }
  return (
    <div className="empty">
      <Mark />
      <h2>{emptyWords[freshness].title}</h2>
      <p>{words[freshness]}</p>
    </div>
  )
}

function Skeletons() {
  return (
    <>
      <li className="room skeleton" aria-hidden="true" />
      <li className="room skeleton" aria-hidden="true" />
      <li className="room skeleton" aria-hidden="true" />
    </>
  )
}
