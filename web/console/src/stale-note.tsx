import type { Connection, Guild } from '@roomwire/sdk'
import { useConnection } from '@roomwire/sdk/react'

/** Says why what is shown may not be so. The page's live region reads the same words out. */
export function StaleNote({ guild }: { readonly guild: Guild }) {
  const connection = useConnection()
  return (
    <p className="note" role="note" data-testid="stale">
      {wordsOfStaleness(connection, guild)}
    </p>
  )
}

export function wordsOfStaleness(connection: Connection, guild: Guild): string {
  return connection.state === 'open' ? staleWords[guild.gateway?.state ?? 'down'] : staleWords.away
}

const staleWords = {
  away: 'This page has lost the hub. Below is what was known last.',
  live: 'The rooms are being read anew.',
  resuming: 'The hub has lost Discord for a moment and is catching up. Below is what was known last.',
  rebuilding: 'The hub is reading the rooms anew. Below is what was known last.',
  down: 'The hub does not hear from Discord. Below is what was known last.',
}
