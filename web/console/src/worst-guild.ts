import type { Guild } from '@roomwire/sdk'
import { useRoomwire } from '@roomwire/sdk/react'
import { useSyncExternalStore } from 'react'

/** The guild that is known worst: what the page says of its freshness must hold for every room on it. */
export function useWorstGuild(): Guild | undefined {
  const roomwire = useRoomwire()
  return useSyncExternalStore(roomwire.listen, () => worstOf(roomwire.getState().guilds))
}

/** The first of those that are worst off; `undefined` if there are none. */
export function worstOf(guilds: ReadonlyMap<string, Guild>): Guild | undefined {
  let worst: Guild | undefined
  for (const guild of guilds.values()) {
    if (!worst || isWorse(guild, worst)) worst = guild
  }
  return worst
}

/** The gateway's states from well to worst. */
const states = ['live', 'resuming', 'rebuilding', 'down']

/** Of two that are off alike, the one that was so for longer is worse. */
function isWorse(a: Guild, b: Guild): boolean {
  const difference = badness(a) - badness(b)
  return difference > 0 || (difference === 0 && (a.staleSince ?? Infinity) < (b.staleSince ?? Infinity))
}

function badness(guild: Guild): number {
  if (!guild.loaded) return 10
  const notFollowed = guild.following === 'live' ? 0 : 5
  return notFollowed + (guild.gateway ? states.indexOf(guild.gateway.state) : states.length)
}
