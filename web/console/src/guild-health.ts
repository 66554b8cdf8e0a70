import type { Guild } from '@roomwire/sdk'
import { useRoomwire } from '@roomwire/sdk/react'
import { useSyncExternalStore } from 'react'

/** The guild with the least fresh rooms: the page's statement must be true for every room on it. */
export function useLeastHealthyGuild(): Guild | undefined {
  const roomwire = useRoomwire()
  return useSyncExternalStore(roomwire.onChange, () => leastHealthyOf(roomwire.getState().guilds))
}

/** The first of the least healthy guilds; `undefined` without guilds. */
export function leastHealthyOf(guilds: ReadonlyMap<string, Guild>): Guild | undefined {
  let worst: Guild | undefined
  for (const guild of guilds.values()) {
    if (!worst || isWorse(guild, worst)) worst = guild
  }
  return worst
}

/** The gateway's states from best to worst. */
const states = ['live', 'resuming', 'rebuilding', 'down']

/** Of two equal ones, the guild that has been stale for longer is worse. */
function isWorse(a: Guild, b: Guild): boolean {
  const difference = unhealth(a) - unhealth(b)
  return difference > 0 || (difference === 0 && (a.staleSince ?? Infinity) < (b.staleSince ?? Infinity))
}

function unhealth(guild: Guild): number {
  if (!guild.loaded) return 10
  const notFollowed = guild.following === 'live' ? 0 : 5
  return notFollowed + (guild.gateway ? states.indexOf(guild.gateway.state) : states.length)
}
