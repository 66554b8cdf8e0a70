/** Which guilds a page follows, and what is known of each, over one connection after the other. */
import type { Frame } from './frames.js'
import { continueFrom, follow, type Guild, type GuildTrack, take, unknownGuild } from './guild.js'
import { bytesOf, type Hello, helloBytesMax } from './hello.js'
import type { ClientFrame, Correlation } from './wire/index.js'

/** What subscriptions are made of, and whom they tell. */
export interface SubscriptionParts {
  /** Which guilds every connection begins with; `undefined`: all that the token allows. */
  readonly guilds: readonly string[] | undefined
  /** Only these rooms of them. */
  readonly rooms: readonly string[] | undefined
  readonly now: () => number
  readonly say: (frame: ClientFrame & { id?: Correlation }) => void
  /** Called when frames keep missing. */
  readonly onBroken: (why: string) => void
  /** Called with the guilds after each change. */
  readonly onGuilds: (guilds: ReadonlyMap<string, Guild>) => void
}

export interface Subscriptions {
  readonly subscribe: (guildId: string, rooms?: readonly string[]) => void
  readonly unsubscribe: (guildId: string) => void
  /** The auth frame, as much of it as the hub takes at once. */
  readonly hello: (token: string) => Hello
  /** A connection has begun; the hub named the guilds that it will follow. */
  readonly begin: (guilds: readonly string[]) => void
  /** The connection is gone. */
  readonly end: () => void
  readonly onFrame: (frame: Frame) => void
}

/** A second gap within this time is not mended by a snapshot but by a new connection, milliseconds. */
const gapMsMin = 10_000

export function createSubscriptions(parts: SubscriptionParts): Subscriptions {
  let tracks: ReadonlyMap<string, GuildTrack> = new Map()
  let guilds: ReadonlyMap<string, Guild> = new Map()
  /** Asked for by `subscribe`, with a choice of rooms each. */
  const chosen = new Map<string, readonly string[] | undefined>()
  /** Given up by `unsubscribe`. */
  const dropped = new Set<string>()
  /** Guilds of the options for which the auth frame had no place: asked for one by one. */
  let postponed: readonly string[] = []
  /** Ids of `subscribe` frames without an answer yet, a guild; what comes before it belongs to another subscription. */
  const unanswered = new Map<string, string>()
  let askedCount = 0
  let gapAt = Number.NEGATIVE_INFINITY

  function subscribe(guildId: string, rooms?: readonly string[]) {
    chosen.set(guildId, rooms)
    dropped.delete(guildId)
    // A position in one choice of rooms is none in another.
    put({ ...follow(trackOf(guildId), 'awaited'), pos: undefined })
    ask(guildId, undefined)
  }

  function unsubscribe(guildId: string) {
    chosen.delete(guildId)
    unanswered.delete(guildId)
    dropped.add(guildId)
    parts.say({ type: 'unsubscribe', guildId })
    keep(track => track.guild.guildId !== guildId)
  }

  function hello(token: string): Hello {
    postponed = []
    const whole = helloFor(token)
    if (bytesOf(whole) <= helloBytesMax || !whole.guilds) return withPositions(whole)
    postponed = whole.guilds
    return { type: 'auth', token, guilds: [] }
  }

  function helloFor(token: string): Hello {
    return {
      type: 'auth',
      token,
      ...(parts.guilds && {
        guilds: parts.guilds.filter(guildId => !chosen.has(guildId) && !dropped.has(guildId)),
      }),
      ...(parts.rooms && { rooms: [...parts.rooms] }),
    }
  }

  /** Adds where to continue, for as many guilds as there is place for; the others begin with a snapshot. */
  function withPositions(frame: Hello): Hello {
    // Without a prototype, so that every guild id is a key like any other.
    const recover: Record<string, string> = Object.create(null)
    let bytes = bytesOf({ ...frame, recover })
    for (const [guildId, { pos }] of tracks) {
      if (pos === undefined || chosen.has(guildId) || dropped.has(guildId)) continue
      // The pair's braces weigh more than its comma.
      bytes += bytesOf({ [guildId]: pos })
      if (bytes > helloBytesMax) break
      recover[guildId] = pos
    }
    return Object.keys(recover).length > 0 ? { ...frame, recover } : frame
  }

  function begin(named: readonly string[]) {
    const asked = [...chosen.keys(), ...postponed]
    keep(({ guild }) => named.includes(guild.guildId) || asked.includes(guild.guildId))
    for (const guildId of named) {
      if (dropped.has(guildId)) parts.say({ type: 'unsubscribe', guildId })
      else put(follow(trackOf(guildId), 'awaited'))
    }
    for (const guildId of asked) {
      const track = trackOf(guildId)
      put(follow(track, 'awaited'))
      ask(guildId, track.pos)
    }
  }

  function end() {
    unanswered.clear()
    for (const track of tracks.values()) put(follow(track, 'away'))
  }

  function onFrame(frame: Frame) {
    if (frame.kind === 'error') return onRefused(frame.re)
    if (frame.kind !== 'subscribed' && frame.kind !== 'change') return
    const awaited = unanswered.get(frame.guildId)
    // The gateway's state is the guild's, whichever rooms are chosen.
    if (awaited !== undefined && !(frame.kind === 'change' && frame.change.kind === 'gateway')) {
      if (frame.kind !== 'subscribed' || frame.re !== awaited) return
      unanswered.delete(frame.guildId)
    }
    const track = tracks.get(frame.guildId)
    if (!track) return
    if (frame.kind === 'subscribed') return onSubscribed(track, frame)
    const next = take(track, frame.change, frame.pos, frame.n, parts.now())
    if (next === 'gap') onGap(track)
    else put(next)
  }

  function onSubscribed(track: GuildTrack, frame: Extract<Frame, { kind: 'subscribed' }>) {
    if (!frame.recovered) return put(follow(track, 'awaited'))
    // Missed events on top of nothing would pass for the whole.
    if (!track.guild.loaded) return ask(frame.guildId, undefined)
    put(continueFrom(follow(track, 'live'), frame.pos))
  }

  /** A frame is missing: a snapshot mends it, and a hub that does it again gets a new connection. */
  function onGap(track: GuildTrack) {
    put({ ...follow(track, 'awaited'), pos: undefined })
    const now = parts.now()
    const again = now - gapAt < gapMsMin
    gapAt = now
    if (again) parts.onBroken('frames were missing')
    else ask(track.guild.guildId, undefined)
  }

  function onRefused(re: string | undefined) {
    for (const [guildId, id] of unanswered) {
      if (id !== re) continue
      unanswered.delete(guildId)
      put({ ...follow(trackOf(guildId), 'refused'), pos: undefined })
    }
  }

  function ask(guildId: string, recover: string | undefined) {
    const rooms = chosen.has(guildId) ? chosen.get(guildId) : parts.rooms
    const id = `subscribe:${++askedCount}`
    unanswered.set(guildId, id)
    parts.say({
      type: 'subscribe',
      guildId,
      ...(rooms && { rooms: [...rooms] }),
      ...(recover !== undefined && { recover }),
      id,
    })
  }

  function trackOf(guildId: string): GuildTrack {
    return tracks.get(guildId) ?? unknownGuild(guildId)
  }

  function put(track: GuildTrack) {
    const { guildId } = track.guild
    tracks = new Map(tracks).set(guildId, track)
    if (guilds.get(guildId) === track.guild) return
    guilds = new Map(guilds).set(guildId, track.guild)
    parts.onGuilds(guilds)
  }

  function keep(wanted: (track: GuildTrack) => boolean) {
    const kept = [...tracks].filter(([, track]) => wanted(track))
    if (kept.length === tracks.size) return
    tracks = new Map(kept)
    guilds = new Map(kept.map(([guildId, track]) => [guildId, track.guild]))
    parts.onGuilds(guilds)
  }

  return { subscribe, unsubscribe, hello, begin, end, onFrame }
}
