import type { Connection, Gateway, Guild } from '@roomwire/sdk'
import { useConnection } from '@roomwire/sdk/react'
import { useNow, wordsOfAgo, wordsOfTime } from './clock.js'

/** Shows why the rooms may be out of date, and since when. The page's live region reads the reason out. */
export function StaleNote({ guild }: { readonly guild: Guild }) {
  const connection = useConnection()
  const now = useNow(true)
  const since = guild.staleSince
  return (
    <p className="note stale-note" role="note" data-testid="stale">
      <strong>{wordsOfStaleness(connection, guild)}</strong>{' '}
      {since !== null && (
        <span>
          Shown as of <time dateTime={new Date(since).toISOString()}>{wordsOfTime(since, now)}</time>,{' '}
          {wordsOfAgo(now - since)}.
        </span>
      )}
    </p>
  )
}

/** Why, in words that stay the same for as long as the reason does. */
export function wordsOfStaleness(connection: Connection, guild: Guild): string {
  if (connection.state !== 'open') return 'This page does not hear from the hub.'
  if (guild.following === 'retrying')
    return 'The hub has no capacity for this page right now. The page tries again.'
  if (guild.following !== 'live' || !guild.gateway) return 'This page is catching up with the hub.'
  return wordsOfGatewayReason(guild.gateway)
}

/** The reason of the state between the hub and Discord. An unknown reason adds nothing to the state. */
export function wordsOfGatewayReason({ state, reason }: Gateway): string {
  return (reason !== null && reasonWords.get(reason)) || stateWords[state]
}

const stateWords = {
  live: 'The hub is following Discord.',
  resuming: 'The hub has lost Discord for a moment and is catching up.',
  rebuilding: 'The hub is reading the rooms again.',
  down: 'The hub does not hear from Discord.',
}

const reasonWords: ReadonlyMap<string, string> = new Map([
  ['no_worker', 'No gateway worker has reported to the hub yet.'],
  ['worker_silent', 'The hub does not hear from its gateway worker.'],
  ['starting', 'The gateway worker is starting.'],
  ['guild_awaited', 'Discord has not sent this server yet.'],
  ['connecting', 'The gateway worker is connecting to Discord.'],
  ['connection_closed', 'Discord closed the connection. The gateway worker is on its way back.'],
  ['connection_cut', 'The connection to Discord was cut. The gateway worker is on its way back.'],
  ['reconnect_asked', 'Discord asked for a new connection. The gateway worker is on its way back.'],
  ['session_invalid', 'Discord ended the session. The rooms are being read again.'],
  ['gateway_silent', 'Discord stopped answering. The gateway worker is on its way back.'],
  ['session_lost', 'Discord does not continue the session. The rooms are being read again.'],
  ['gateway_refusing', 'Discord ends every connection of the gateway worker.'],
  ['gateway_unreachable', 'Discord cannot be reached.'],
  ['illegible', 'Discord sent what could not be read. The rooms are being read again.'],
  ['catching_up', 'The gateway worker is catching up with Discord.'],
  ['not_told', 'The gateway worker has reported nothing about this server.'],
  ['identify_budget', 'Discord allows no more new sessions today. The gateway worker waits.'],
  ['outage', 'Discord has an outage on this server.'],
  ['removed', 'The bot is not on this server any more.'],
  ['worker_stopping', 'The gateway worker is stopping.'],
  ['discord_refused', 'Discord refuses the bot. Somebody has to look at its token and its settings.'],
  ['store_failing', 'The hub cannot store what happens. Somebody has to look at its disk.'],
  ['not_followed', 'No gateway worker follows this server.'],
  ['worker_was_stopped', 'The gateway worker was stopped for a while and is catching up.'],
  ['refused', 'The hub could not take what the gateway worker sent about this server. It is sent again.'],
  ['too_large', 'This server is larger than the hub can take in.'],
])
