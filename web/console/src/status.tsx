import type { Connection, ConnectionEnd, Gateway, Guild } from '@roomwire/sdk'
import { useConnection, useRoomwire } from '@roomwire/sdk/react'
import { type ReactNode, useEffect, useState } from 'react'
import { useNow, wordsOfMs } from './clock.js'
import { useLeastHealthyGuild } from './guild-health.js'
import { Icon } from './icons.js'
import { wordsOfGatewayReason, wordsOfStaleness } from './stale-note.js'

/** Two states: this page to the hub, and the hub to Discord. */
export function Status() {
  return (
    <div className="status">
      <ConnectionPill />
      <GatewayPill />
      <Announcement />
    </div>
  )
}

/** The live region: announces changes, without a countdown. */
function Announcement() {
  const connection = useConnection()
  const guild = useLeastHealthyGuild()
  return (
    <p className="unseen" role="status" data-testid="announcement">
      {wordsToAnnounce(connection, guild)}
    </p>
  )
}

function ConnectionPill() {
  const connection = useConnection()
  const { connect } = useRoomwire()
  const now = useNow(connection.state === 'waiting')
  const stopped = connection.state === 'waiting' || connection.state === 'closed'
  return (
    <Pill
      testId="connection"
      state={connection.state}
      tone={connectionTone[connection.state]}
      title={whyOf(connection)}
    >
      {connection.state === 'closed' ? 'Not connected' : wordsOfConnection(connection, now)}
      {stopped && (
        <button type="button" className="inline" onClick={connect}>
          Try now
        </button>
      )}
    </Pill>
  )
}

/** Why the page is not connected, and what somebody has to change; nothing for failures that end by themselves. */
export function ConnectionNote() {
  const connection = useConnection()
  const [reason, setReason] = useState<ConnectionEnd | null>(null)
  // It stays during the next attempt: a note that comes and goes cannot be read.
  useEffect(() => {
    if (connection.state !== 'connecting') setReason(endOf(connection))
  }, [connection])
  if (!reason || reason.hint === null) return null
  return (
    <div className="note bad" role="note" data-testid="failure" data-failure={reason.failure}>
      <Icon name="warning" />
      <div className="note-text">
        <strong>{wordsOfEnd(reason)}</strong>
        <p>{reason.hint}</p>
      </div>
    </div>
  )
}

function endOf(connection: Connection): ConnectionEnd | null {
  return connection.state === 'waiting' || connection.state === 'closed' ? connection.reason : null
}

/** Why the page is not connected, as a sentence. */
export function wordsOfEnd({ text, cause }: ConnectionEnd): string {
  // The console's own text is clearer than the SDK's text about `getToken`.
  if (cause instanceof Error) return cause.message
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

function GatewayPill() {
  const guild = useLeastHealthyGuild()
  const connection = useConnection()
  const known = connection.state === 'open' ? (guild?.gateway ?? null) : null
  const now = useNow(known !== null && known.state !== 'live')
  return (
    <Pill
      testId="gateway"
      state={known?.state ?? 'unknown'}
      tone={known ? gatewayTone[known.state] : 'idle'}
      title={known && known.state !== 'live' ? wordsOfGatewayReason(known) : undefined}
    >
      {known ? wordsOfGateway(known, now) : 'Discord: not known'}
    </Pill>
  )
}

type Tone = 'good' | 'busy' | 'bad' | 'idle'

const connectionTone = { open: 'good', connecting: 'busy', waiting: 'busy', closed: 'bad' } as const
const gatewayTone = { live: 'good', resuming: 'busy', rebuilding: 'busy', down: 'bad' } as const

interface PillProps {
  readonly testId: string
  readonly state: string
  readonly tone: Tone
  readonly title: string | undefined
  readonly children: ReactNode
}

function Pill({ testId, state, tone, title, children }: PillProps) {
  return (
    <span className={`pill ${tone}`} data-testid={testId} data-state={state} title={title}>
      <i className="dot" aria-hidden="true" />
      {children}
    </span>
  )
}

export function wordsOfConnection(connection: Connection, now: number): string {
  switch (connection.state) {
    case 'open':
      return 'Connected'
    case 'connecting':
      return 'Connecting…'
    case 'waiting':
      return connection.nextAttemptAt - now < 500
        ? 'Reconnecting…'
        : `Reconnecting in ${wordsOfMs(connection.nextAttemptAt - now)}`
    case 'closed':
      return connection.reason ? `Closed: ${connection.reason.text}` : 'Not connected'
  }
}

export function wordsOfGateway(gateway: Gateway, now: number): string {
  // How long the hub has been up says nothing of Discord.
  if (gateway.reason === 'no_worker') return 'Discord not heard of yet'
  const age = wordsOfMs(now - gateway.since)
  switch (gateway.state) {
    case 'live':
      return 'Discord live'
    case 'resuming':
      return `Discord resuming, ${age}`
    case 'rebuilding':
      return `Discord rebuilding, ${age}`
    case 'down':
      return `Discord cut off for ${age}`
  }
}

/** The text for the live region. It stays the same over repeated attempts. */
export function wordsToAnnounce(connection: Connection, guild: Guild | undefined): string {
  if (connection.state === 'closed') return wordsOfConnection(connection, 0)
  if (guild?.loaded && guild.stale) return wordsOfStaleness(connection, guild)
  if (connection.state !== 'open') {
    const reason = endOf(connection)
    return reason && reason.hint !== null ? wordsOfEnd(reason) : 'Connecting to the hub.'
  }
  return guild?.loaded ? 'Connected. What is shown is live.' : 'Connected.'
}

function whyOf(connection: Connection): string | undefined {
  const reason = endOf(connection)
  if (!reason) return undefined
  return reason.code === null ? reason.text : `${reason.text} (${reason.code})`
}
