/** Which guilds a page follows, and what is known of each, over one connection after the other. */
import { type Backoff, fullJitter } from './backoff.js'
import { hintMsMax } from './close-codes.js'
import type { Environment } from './environment.js'
import type { Frame } from './frames.js'
import {
  awaitAnswer,
  begin as beginTrack,
  type Guild,
  type GuildTrack,
  keptGuild,
  leave,
  mend,
  postpone,
  take,
  unknownGuild,
} from './guild.js'
import { bytesOf, type Hello } from './hello.js'
import { type KeptPlace, type Owner, readKept, writeKept } from './kept.js'
import { identityOf } from './token.js'
import { type ClientFrame, type Correlation, RETRIABLE } from './wire/index.js'

/** What subscriptions are made of, and whom they tell. */
export interface SubscriptionParts {
  /** Which guilds every connection begins with; `undefined`: all that the token allows. */
  readonly guilds: readonly string[] | undefined
  /** Only these rooms of them. */
  readonly rooms: readonly string[] | undefined
  /** How many bytes the hub accepts as a first frame. */
  readonly firstFrameBytesMax: number
  /** Where guilds are kept over a reload. */
  readonly kept: KeptPlace
  readonly backoff: Backoff
  readonly environment: Pick<Environment, 'now' | 'random' | 'after'>
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
  /** The hub closed with 4403 on the auth frame; returns whether the next one names fewer guilds. */
  readonly onForbidden: () => boolean
  /** A connection has begun; the hub named its subject, and the guilds that it will follow. */
  readonly begin: (sub: string, guilds: readonly string[]) => void
  /** The connection is gone. */
  readonly end: () => void
  readonly onFrame: (frame: Frame) => void
  /** The hub does not let this page in: it shows nothing any more. */
  readonly forbid: () => void
  /** Another person may connect next: subject, rooms and positions are forgotten. What the page chose to follow stays. */
  readonly forget: () => void
  /** Whether what is shown belongs to somebody else than this token says that it is for. */
  readonly areOfAnother: (token: string) => boolean
  /** Puts what is known where it survives a reload. */
  readonly keep: () => void
  /** Empties that place. */
  readonly keepNothing: () => void
}

/** A connection follows at most so many guilds, unless the hub's SUBSCRIPTIONS_MAX is another. */
const guildsMax = 100

type Refusal = Extract<Frame, { kind: 'error' }>

export function createSubscriptions(parts: SubscriptionParts): Subscriptions {
  const { after, now, random } = parts.environment
  let tracks: ReadonlyMap<string, GuildTrack> = new Map()
  let guilds: ReadonlyMap<string, Guild> = new Map()
  /** Asked for by `subscribe`, with a choice of rooms each. */
  const chosen = new Map<string, readonly string[] | undefined>()
  /** Given up by `unsubscribe`. */
  const dropped = new Set<string>()
  /** Guilds of the options that the auth frame does not name: asked for one by one. */
  let postponed: readonly string[] = []
  /**
   * Whether the token may not allow every guild of the options. The hub closes with 4403 where the auth frame names
   * such a guild. Where a `subscribe` frame names it, only that guild is refused.
   */
  let separately = false
  /** The hub has closed with 4403, and has not said yet which guilds it allows. */
  let forbiddenSome = false
  /** Ids of `subscribe` frames without an answer yet, a guild; what comes before it belongs to another subscription. */
  const unanswered = new Map<string, string>()
  let askedCount = 0
  /** Guilds that the hub could not take: how often in a row, and how to call off asking again. */
  const refusals = new Map<string, { readonly count: number; readonly callOff: () => void }>()
  /** The error frame that has just come, if it did not say what it is about: the next frame does. */
  let unnamed: Refusal | undefined
  /** Whose all this is, in the hub's words; nothing of one subject is shown to another. */
  let subject: string | undefined
  /** The identity of the token that was accepted, or of the one whose guilds were kept. */
  let identity: string | undefined
  /** The same of the token that is offered now. */
  let offered: string | undefined
  let heardAt = 0

  function subscribe(guildId: string, rooms?: readonly string[]) {
    const same = sameChoice(choiceOf(guildId), rooms)
    chosen.set(guildId, rooms)
    dropped.delete(guildId)
    const track = awaitAnswer(trackOf(guildId), now())
    // A position in one choice of rooms is none in another, and what is outside of it is not shown from now on.
    put(same ? track : { ...narrow(track, rooms), pos: undefined })
    ask(guildId)
  }

  function unsubscribe(guildId: string) {
    chosen.delete(guildId)
    stopAsking(guildId)
    dropped.add(guildId)
    parts.say({ type: 'unsubscribe', guildId })
    retain(track => track.guild.guildId !== guildId)
  }

  function hello(token: string): Hello {
    postponed = []
    offer(identityOf(token))
    const whole = helloFor(token)
    const fits = !separately && bytesOf(whole) <= parts.firstFrameBytesMax
    if (fits || !whole.guilds) return withPositions(whole)
    postponed = whole.guilds
    return { type: 'auth', token, guilds: [] }
  }

  function onForbidden(): boolean {
    // Without a named guild, the hub forbids the page and not a guild.
    if (separately || postponed.length > 0 || namedGuilds().length === 0) return false
    separately = forbiddenSome = true
    return true
  }

  /** The guilds of the options that `subscribe` and `unsubscribe` did not change. */
  function namedGuilds(): readonly string[] {
    return (parts.guilds ?? []).filter(guildId => !chosen.has(guildId) && !dropped.has(guildId))
  }

  function helloFor(token: string): Hello {
    return {
      type: 'auth',
      token,
      ...(parts.guilds && { guilds: [...namedGuilds()] }),
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
      if (bytes > parts.firstFrameBytesMax) break
      recover[guildId] = pos
    }
    return Object.keys(recover).length > 0 ? { ...frame, recover } : frame
  }

  function begin(sub: string, named: readonly string[]) {
    heardAt = now()
    forbiddenSome = false
    enter(sub)
    const asked = [...chosen.keys(), ...postponed]
    retain(({ guild }) => named.includes(guild.guildId) || asked.includes(guild.guildId))
    for (const guildId of named) {
      if (dropped.has(guildId)) parts.say({ type: 'unsubscribe', guildId })
      else put(awaitAnswer(trackOf(guildId), now()))
    }
    for (const guildId of asked) {
      put(awaitAnswer(trackOf(guildId), now()))
      ask(guildId)
    }
  }

  /** A token is about to be sent: the rooms of somebody else go now, also if the hub never answers. */
  function offer(next: string | undefined) {
    offered = next
    if (next === undefined || next === identity) return
    if (identity !== undefined || subject !== undefined) forget()
    identity = next
    restore({ identity: next })
  }

  /** The hub has said whose the connection is. */
  function enter(sub: string) {
    if (subject !== undefined && subject !== sub) forget()
    if (subject === undefined) restore({ sub })
    subject = sub
    identity = offered
  }

  /** Remembers what was kept of this owner, unless newer is known. */
  function restore(owner: Pick<Owner, 'sub'> | { readonly identity: string }) {
    const kept = readKept(parts.kept.take(), owner, now())
    if (!kept) return
    subject = kept.sub
    for (const one of kept.guilds) {
      const { guildId } = one
      const wanted = parts.guilds === undefined || parts.guilds.includes(guildId) || chosen.has(guildId)
      if (!wanted || dropped.has(guildId) || trackOf(guildId).guild.loaded) continue
      if (sameChoice(choiceOf(guildId), one.choice ?? undefined)) put(keptGuild(one))
    }
  }

  function forget() {
    // A page that is shown again after `pagehide` still has there what it showed.
    if (subject !== undefined) keepNothing()
    subject = identity = undefined
    separately = false
    if (tracks.size === 0) return
    // What the page chose to follow is its own choice, and not a subject's.
    tracks = new Map([...chosen.keys()].map(guildId => [guildId, unknownGuild(guildId)]))
    guilds = new Map([...tracks].map(([guildId, track]) => [guildId, track.guild]))
    parts.onGuilds(guilds)
  }

  function keep() {
    if (subject === undefined) return
    const at = now()
    const guilds = [...tracks.values()].flatMap(({ guild, pos }) =>
      // What nobody can date is not shown again.
      pos === undefined || !guild.loaded || (guild.stale && guild.staleSince === null)
        ? []
        : {
            guildId: guild.guildId,
            pos,
            asOf: guild.staleSince ?? at,
            choice: choiceOf(guild.guildId) ?? null,
            rooms: guild.rooms,
          },
    )
    parts.kept.put(writeKept({ sub: subject, identity: identity ?? null }, guilds, at))
  }

  function keepNothing() {
    parts.kept.empty()
  }

  function end() {
    for (const guildId of [...unanswered.keys(), ...refusals.keys()]) stopAsking(guildId)
    unnamed = undefined
    // A clock that was set back would date the past into the future.
    const at = Math.min(heardAt, now())
    for (const track of tracks.values()) put(leave(track, at))
    // Nobody knows which of the guilds that are shown is the forbidden one.
    if (forbiddenSome) forbid()
    forbiddenSome = false
  }

  function forbid() {
    keepNothing()
    for (const guildId of tracks.keys()) refuse(guildId)
  }

  function onFrame(frame: Frame) {
    heardAt = now()
    const before = unnamed
    unnamed = frame.kind === 'error' && frame.re === undefined ? frame : undefined
    if (frame.kind === 'auth.refreshed') return onAllowed(frame.guilds)
    if (frame.kind === 'unsubscribed') return onUnsubscribed(frame.guildId, before)
    if (frame.kind === 'error') return onRefused(frame)
    if (frame.kind !== 'subscribed' && frame.kind !== 'change') return
    const awaited = unanswered.get(frame.guildId)
    // The gateway's state is the guild's, whichever rooms are chosen.
    if (awaited !== undefined && !(frame.kind === 'change' && frame.change.kind === 'gateway')) {
      if (frame.kind !== 'subscribed' || frame.re !== awaited) return
      stopAsking(frame.guildId)
      separately &&= namedGuilds().some(isNotAllowed)
    }
    const track = tracks.get(frame.guildId)
    if (!track) return
    if (frame.kind === 'subscribed') return onSubscribed(track, frame)
    const next = take(track, frame.change, frame.pos, frame.n, now())
    if (next === 'gap') onGap(track)
    else put(next)
  }

  /** Whether the hub has refused this guild, or has not answered yet. */
  function isNotAllowed(guildId: string): boolean {
    return unanswered.has(guildId) || tracks.get(guildId)?.guild.following === 'refused'
  }

  /** A newer token allows these guilds: new ones are followed, and those that it lost are forgotten. */
  function onAllowed(allowed: readonly string[] | undefined) {
    if (!allowed) return
    separately = !namedGuilds().every(guildId => allowed.includes(guildId))
    const isChosen = (guildId: string) => chosen.has(guildId) || parts.guilds?.includes(guildId) === true
    // A chosen guild stays, as refused: the hub says so in the frames that follow.
    const isKept = (guildId: string) => allowed.includes(guildId) || isChosen(guildId)
    for (const guildId of tracks.keys()) if (!isKept(guildId)) stopAsking(guildId)
    retain(({ guild }) => isKept(guild.guildId))
    for (const guildId of allowed) {
      const track = tracks.get(guildId)
      const wanted = isChosen(guildId) || (parts.guilds === undefined && tracks.size < guildsMax)
      const follows = track !== undefined && track.guild.following !== 'refused'
      if (!wanted || follows || dropped.has(guildId)) continue
      put(awaitAnswer(trackOf(guildId), now()))
      ask(guildId)
    }
  }

  function onSubscribed(track: GuildTrack, { recovered, pos }: Extract<Frame, { kind: 'subscribed' }>) {
    if (!recovered || track.guild.loaded) return put(beginTrack(track, recovered, pos, now()))
    // Missed events on top of nothing would pass for the whole.
    put({ ...track, pos: undefined })
    ask(track.guild.guildId)
  }

  function onGap(track: GuildTrack) {
    const mended = mend(track, now())
    put(mended.track)
    if (mended.by === 'connection') parts.onBroken('frames were missing')
    else ask(track.guild.guildId)
  }

  function onRefused(refusal: Refusal) {
    for (const [guildId, id] of unanswered) {
      if (id === refusal.re) refuse(guildId, refusal)
    }
  }

  /** The hub ends a subscription: a newer token does not allow it, or there is no place for it now. */
  function onUnsubscribed(guildId: string, why: Refusal | undefined) {
    // An answer to `unsubscribe`, if the guild is not followed any more, or asked for anew.
    if (tracks.has(guildId) && !unanswered.has(guildId)) refuse(guildId, why)
  }

  function refuse(guildId: string, why?: Refusal) {
    if (why && isForNow(why)) return askLater(guildId, why.retryAfterMs)
    stopAsking(guildId)
    put(unknownGuild(guildId, 'refused'))
  }

  /** Asks again when the hub said, and with jitter: whoever was refused with this page was told the same. */
  function askLater(guildId: string, retryAfterMs = 0) {
    const count = refusals.get(guildId)?.count ?? 0
    const waitMs = Math.min(retryAfterMs, hintMsMax) + fullJitter(parts.backoff, count, random())
    // What still comes belongs to the subscription before, and no answer has this id.
    unanswered.set(guildId, `refused:${askedCount}`)
    refusals.get(guildId)?.callOff()
    const callOff = after(waitMs, () => {
      put(awaitAnswer(trackOf(guildId), now()))
      ask(guildId)
    })
    refusals.set(guildId, { count: count + 1, callOff })
    put(postpone(trackOf(guildId), now()))
  }

  /** The guild is answered, or not asked for any more. */
  function stopAsking(guildId: string) {
    unanswered.delete(guildId)
    refusals.get(guildId)?.callOff()
    refusals.delete(guildId)
  }

  /** Asks for a guild, from where it is known. */
  function ask(guildId: string) {
    const rooms = choiceOf(guildId)
    const { pos } = trackOf(guildId)
    const id = `subscribe:${++askedCount}`
    refusals.get(guildId)?.callOff()
    unanswered.set(guildId, id)
    parts.say({
      type: 'subscribe',
      guildId,
      ...(rooms && { rooms: [...rooms] }),
      ...(pos !== undefined && { recover: pos }),
      id,
    })
  }

  function choiceOf(guildId: string): readonly string[] | undefined {
    return chosen.has(guildId) ? chosen.get(guildId) : parts.rooms
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

  function retain(wanted: (track: GuildTrack) => boolean) {
    const kept = [...tracks].filter(([, track]) => wanted(track))
    if (kept.length === tracks.size) return
    tracks = new Map(kept)
    guilds = new Map(kept.map(([guildId, track]) => [guildId, track.guild]))
    parts.onGuilds(guilds)
  }

  function areOfAnother(token: string): boolean {
    const next = identityOf(token)
    return next !== undefined && identity !== undefined && next !== identity
  }

  return {
    subscribe,
    unsubscribe,
    hello,
    onForbidden,
    begin,
    end,
    onFrame,
    forbid,
    forget,
    areOfAnother,
    keep,
    keepNothing,
  }
}

/** Whether a refusal passes by itself. Too many guilds, say, are as many the next time: no time is named then. */
function isForNow({ code, retryAfterMs }: Refusal): boolean {
  return code === 'RATE_LIMITED' ? retryAfterMs !== undefined : isRetriable.has(code)
}

const isRetriable: ReadonlySet<string> = RETRIABLE

function sameChoice(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  return a === b || (a && [...a].sort().join()) === (b && [...b].sort().join())
}

function narrow(track: GuildTrack, rooms: readonly string[] | undefined): GuildTrack {
  if (!rooms) return track
  const shown = track.guild.rooms.filter(room => rooms.includes(room.channelId))
  return { ...track, guild: { ...track.guild, rooms: shown } }
}
