/** The guilds that a page follows, and what is known of each, over reconnects. */

import { type AuthFrame, bytesOf } from './auth-frame.js'
import { type Backoff, fullJitter } from './backoff.js'
import { hintMsMax } from './close-codes.js'
import type { Environment } from './environment.js'
import type { Frame } from './frames.js'
import {
  applyChange,
  awaitAnswer,
  begin as beginTrack,
  disconnect,
  type Guild,
  type GuildTrack,
  persistedTrack,
  repairGap,
  retryLater,
  unknownGuild,
} from './guild.js'
import { type Owner, type PersistedPlace, readPersisted, writePersisted } from './persisted.js'
import { identityOf } from './token.js'
import { type ClientFrame, type Correlation, RETRIABLE } from './wire/index.js'

/** Parts and callbacks of the subscriptions. */
export interface SubscriptionParts {
  /** The guilds of the auth frame; `undefined`: every guild that the token allows. */
  readonly guilds: readonly string[] | undefined
  /** Only these rooms of them. */
  readonly rooms: readonly string[] | undefined
  /** The most bytes that the hub accepts as a first frame. */
  readonly firstFrameBytesMax: number
  /** Where guilds are stored over a reload. */
  readonly persisted: PersistedPlace
  readonly backoff: Backoff
  readonly environment: Pick<Environment, 'now' | 'random' | 'after'>
  readonly send: (frame: ClientFrame & { id?: Correlation }) => void
  /** Called when frames are missing again and again. */
  readonly onBroken: (why: string) => void
  /** Called with the subject that the rooms belong to; `undefined` when it is forgotten. */
  readonly onSubject: (sub: string | undefined) => void
  /** Called with the guilds after each change. */
  readonly onGuilds: (guilds: ReadonlyMap<string, Guild>) => void
}

export interface Subscriptions {
  readonly subscribe: (guildId: string, rooms?: readonly string[]) => void
  readonly unsubscribe: (guildId: string) => void
  /** The auth frame, within the size that the hub accepts. */
  readonly authFrame: (token: string) => AuthFrame
  /** Called after close code 4403 on the auth frame; returns whether the next one names fewer guilds. */
  readonly onForbidden: () => boolean
  /** Called with the subject and the guilds of `auth.ok`. */
  readonly begin: (sub: string, guilds: readonly string[]) => void
  /** Called when the connection is lost. */
  readonly end: () => void
  readonly onFrame: (frame: Frame) => void
  /** Called when the hub forbids this page: it shows nothing any more. */
  readonly forbid: () => void
  /** Forgets subject, rooms and positions, because another person may connect next. The chosen guilds stay. */
  readonly forget: () => void
  /** Whether the rooms belong to another person than this token. */
  readonly belongToAnother: (token: string) => boolean
  /** Stores rooms and positions for a reload. */
  readonly persist: () => void
  /** Deletes what is stored for a reload. */
  readonly clearPersisted: () => void
}

/** The most guilds that a connection follows: the default of the hub's SUBSCRIPTIONS_MAX. */
const guildsMax = 100

type Refusal = Extract<Frame, { kind: 'error' }>

export function createSubscriptions(parts: SubscriptionParts): Subscriptions {
  const { after, now, random } = parts.environment
  let tracks: ReadonlyMap<string, GuildTrack> = new Map()
  let guilds: ReadonlyMap<string, Guild> = new Map()
  /** Guilds of `subscribe`, with the chosen rooms of each. */
  const chosen = new Map<string, readonly string[] | undefined>()
  /** Guilds of `unsubscribe`. */
  const dropped = new Set<string>()
  /** Guilds of the options that did not fit the auth frame: each gets its own `subscribe` frame. */
  let deferred: readonly string[] = []
  /**
   * Whether the token may not allow every guild of the options. The hub closes with 4403 if the auth frame names
   * such a guild. If a `subscribe` frame names it, the hub refuses only that guild.
   */
  let subscribesSeparately = false
  /** The hub has closed with 4403, and has not yet named the guilds that it allows. */
  let forbiddenSome = false
  /** The id of each unanswered `subscribe` frame by guild. Frames before its answer belong to an earlier subscription. */
  const unanswered = new Map<string, string>()
  let requestCount = 0
  /** Guilds that the hub refused for now: how often in a row, and how to cancel the next request. */
  const refusals = new Map<string, { readonly count: number; readonly cancel: () => void }>()
  /** The last frame, if it was an error without `re`: the next frame shows which guild it belongs to. */
  let unnamed: Refusal | undefined
  /** The subject that the hub named. Nothing of one subject is shown to another. */
  let subject: string | undefined
  /** The identity of the accepted token, or of the token that the stored guilds belong to. */
  let identity: string | undefined
  /** The identity of the token in the auth frame. */
  let offered: string | undefined
  let receivedAt = 0

  function subscribe(guildId: string, rooms?: readonly string[]) {
    const same = sameChoice(choiceOf(guildId), rooms)
    chosen.set(guildId, rooms)
    dropped.delete(guildId)
    const track = awaitAnswer(trackOf(guildId), now())
    // A position is valid for one choice of rooms only, and other rooms are not shown from now on.
    put(same ? track : { ...narrow(track, rooms), pos: undefined })
    request(guildId)
  }

  function unsubscribe(guildId: string) {
    chosen.delete(guildId)
    endRequest(guildId)
    dropped.add(guildId)
    parts.send({ type: 'unsubscribe', guildId })
    retain(track => track.guild.guildId !== guildId)
  }

  function authFrame(token: string): AuthFrame {
    deferred = []
    prepareFor(identityOf(token))
    const whole = authFrameFor(token)
    const fits = !subscribesSeparately && bytesOf(whole) <= parts.firstFrameBytesMax
    if (fits || !whole.guilds) return withPositions(whole)
    deferred = whole.guilds
    return { type: 'auth', token, guilds: [] }
  }

  function onForbidden(): boolean {
    // If no guild was named, the hub forbids the page and not a guild.
    if (subscribesSeparately || deferred.length > 0 || namedGuilds().length === 0) return false
    subscribesSeparately = forbiddenSome = true
    return true
  }

  /** The guilds of the options that `subscribe` and `unsubscribe` did not change. */
  function namedGuilds(): readonly string[] {
    return (parts.guilds ?? []).filter(guildId => !chosen.has(guildId) && !dropped.has(guildId))
  }

  function authFrameFor(token: string): AuthFrame {
    return {
      type: 'auth',
      token,
      ...(parts.guilds && { guilds: [...namedGuilds()] }),
      ...(parts.rooms && { rooms: [...parts.rooms] }),
    }
  }

  /** Adds positions, for as many guilds as fit. The others begin with a snapshot. */
  function withPositions(frame: AuthFrame): AuthFrame {
    // Without a prototype, so that every guild id is a key like any other.
    const recover: Record<string, string> = Object.create(null)
    let bytes = bytesOf({ ...frame, recover })
    for (const [guildId, { pos }] of tracks) {
      if (pos === undefined || chosen.has(guildId) || dropped.has(guildId)) continue
      // The pair's braces need more bytes than its comma.
      bytes += bytesOf({ [guildId]: pos })
      if (bytes > parts.firstFrameBytesMax) break
      recover[guildId] = pos
    }
    return Object.keys(recover).length > 0 ? { ...frame, recover } : frame
  }

  function begin(sub: string, named: readonly string[]) {
    receivedAt = now()
    forbiddenSome = false
    setSubject(sub)
    const requested = [...chosen.keys(), ...deferred]
    retain(({ guild }) => named.includes(guild.guildId) || requested.includes(guild.guildId))
    for (const guildId of named) {
      if (dropped.has(guildId)) parts.send({ type: 'unsubscribe', guildId })
      else put(awaitAnswer(trackOf(guildId), now()))
    }
    for (const guildId of requested) {
      put(awaitAnswer(trackOf(guildId), now()))
      request(guildId)
    }
  }

  /** Before a token is sent: drops the rooms of another person, also if the hub never answers. */
  function prepareFor(next: string | undefined) {
    offered = next
    if (next === undefined || next === identity) return
    if (identity !== undefined || subject !== undefined) forget()
    identity = next
    restore({ identity: next })
  }

  /** Takes the subject that the hub named. */
  function setSubject(sub: string) {
    if (subject !== undefined && subject !== sub) forget()
    if (subject === undefined) restore({ sub })
    identity = offered
    knowSubject(sub)
  }

  /** Restores the stored guilds of this owner, except guilds that are loaded. */
  function restore(owner: Pick<Owner, 'sub'> | { readonly identity: string }) {
    const persisted = readPersisted(parts.persisted.take(), owner, now())
    if (!persisted) return
    subject = persisted.sub
    for (const one of persisted.guilds) {
      const { guildId } = one
      const wanted = parts.guilds === undefined || parts.guilds.includes(guildId) || chosen.has(guildId)
      if (!wanted || dropped.has(guildId) || trackOf(guildId).guild.loaded) continue
      if (sameChoice(choiceOf(guildId), one.choice ?? undefined)) put(persistedTrack(one))
    }
    parts.onSubject(subject)
  }

  function forget() {
    // A page that is shown again after `pagehide` has stored its rooms.
    if (subject !== undefined) clearPersisted()
    identity = undefined
    knowSubject(undefined)
    subscribesSeparately = false
    if (tracks.size === 0) return
    // The page chose these guilds, and not the subject.
    tracks = new Map([...chosen.keys()].map(guildId => [guildId, unknownGuild(guildId)]))
    guilds = new Map([...tracks].map(([guildId, track]) => [guildId, track.guild]))
    parts.onGuilds(guilds)
  }

  function knowSubject(sub: string | undefined) {
    if (subject === sub) return
    subject = sub
    parts.onSubject(sub)
  }

  function persist() {
    if (subject === undefined) return
    const at = now()
    const guilds = [...tracks.values()].flatMap(({ guild, pos }) =>
      // Rooms of unknown age are not shown again.
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
    parts.persisted.put(writePersisted({ sub: subject, identity: identity ?? null }, guilds, at))
  }

  function clearPersisted() {
    parts.persisted.clear()
  }

  function end() {
    for (const guildId of [...unanswered.keys(), ...refusals.keys()]) endRequest(guildId)
    unnamed = undefined
    // If the clock was set back, `receivedAt` is in the future.
    const at = Math.min(receivedAt, now())
    for (const track of tracks.values()) put(disconnect(track, at))
    // Any of the guilds may be the forbidden one.
    if (forbiddenSome) forbid()
    forbiddenSome = false
  }

  function forbid() {
    clearPersisted()
    for (const guildId of tracks.keys()) refuse(guildId)
  }

  function onFrame(frame: Frame) {
    receivedAt = now()
    const before = unnamed
    unnamed = frame.kind === 'error' && frame.re === undefined ? frame : undefined
    if (frame.kind === 'auth.refreshed') return onAllowed(frame.guilds)
    if (frame.kind === 'unsubscribed') return onUnsubscribed(frame.guildId, before)
    if (frame.kind === 'error') return onRefused(frame)
    if (frame.kind !== 'subscribed' && frame.kind !== 'change') return
    const awaited = unanswered.get(frame.guildId)
    // The gateway's state does not depend on the chosen rooms.
    if (awaited !== undefined && !(frame.kind === 'change' && frame.change.kind === 'gateway')) {
      if (frame.kind !== 'subscribed' || frame.re !== awaited) return
      endRequest(frame.guildId)
      subscribesSeparately &&= namedGuilds().some(isNotAllowed)
    }
    const track = tracks.get(frame.guildId)
    if (!track) return
    if (frame.kind === 'subscribed') return onSubscribed(track, frame)
    const next = applyChange(track, frame.change, frame.pos, frame.n, now())
    if (next === 'gap') onGap(track)
    else put(next)
  }

  /** Whether the hub has refused this guild, or has not answered yet. */
  function isNotAllowed(guildId: string): boolean {
    return unanswered.has(guildId) || tracks.get(guildId)?.guild.following === 'refused'
  }

  /** Follows the guilds that a newer token adds, and forgets those that it does not allow. */
  function onAllowed(allowed: readonly string[] | undefined) {
    if (!allowed) return
    subscribesSeparately = !namedGuilds().every(guildId => allowed.includes(guildId))
    const isChosen = (guildId: string) => chosen.has(guildId) || parts.guilds?.includes(guildId) === true
    // A chosen guild stays. The frames that follow report it as refused.
    const isWanted = (guildId: string) => allowed.includes(guildId) || isChosen(guildId)
    for (const guildId of tracks.keys()) if (!isWanted(guildId)) endRequest(guildId)
    retain(({ guild }) => isWanted(guild.guildId))
    for (const guildId of allowed) {
      const track = tracks.get(guildId)
      const wanted = isChosen(guildId) || (parts.guilds === undefined && tracks.size < guildsMax)
      const follows = track !== undefined && track.guild.following !== 'refused'
      if (!wanted || follows || dropped.has(guildId)) continue
      put(awaitAnswer(trackOf(guildId), now()))
      request(guildId)
    }
  }

  function onSubscribed(track: GuildTrack, { recovered, pos }: Extract<Frame, { kind: 'subscribed' }>) {
    if (!recovered || track.guild.loaded) return put(beginTrack(track, recovered, pos, now()))
    // Missed events without the rooms before them are not the whole state.
    put({ ...track, pos: undefined })
    request(track.guild.guildId)
  }

  function onGap(track: GuildTrack) {
    const mended = repairGap(track, now())
    put(mended.track)
    if (mended.by === 'connection') parts.onBroken('frames were missing')
    else request(track.guild.guildId)
  }

  function onRefused(refusal: Refusal) {
    for (const [guildId, id] of unanswered) {
      if (id === refusal.re) refuse(guildId, refusal)
    }
  }

  /** The hub ends a subscription: a newer token does not allow it, or the hub has no capacity for it now. */
  function onUnsubscribed(guildId: string, why: Refusal | undefined) {
    // If the guild is not followed, or requested again, this frame answers `unsubscribe`.
    if (tracks.has(guildId) && !unanswered.has(guildId)) refuse(guildId, why)
  }

  function refuse(guildId: string, why?: Refusal) {
    if (why && isForNow(why)) return requestLater(guildId, why.retryAfterMs)
    endRequest(guildId)
    put(unknownGuild(guildId, 'refused'))
  }

  /** Requests the guild again at the time that the hub named, with jitter, because other pages got the same time. */
  function requestLater(guildId: string, retryAfterMs = 0) {
    const count = refusals.get(guildId)?.count ?? 0
    const waitMs = Math.min(retryAfterMs, hintMsMax) + fullJitter(parts.backoff, count, random())
    // Frames that still arrive belong to the earlier subscription, and no answer has this id.
    unanswered.set(guildId, `refused:${requestCount}`)
    refusals.get(guildId)?.cancel()
    const cancel = after(waitMs, () => {
      put(awaitAnswer(trackOf(guildId), now()))
      request(guildId)
    })
    refusals.set(guildId, { count: count + 1, cancel })
    put(retryLater(trackOf(guildId), now()))
  }

  /** Ends the request for a guild: it is answered, or not wanted any more. */
  function endRequest(guildId: string) {
    unanswered.delete(guildId)
    refusals.get(guildId)?.cancel()
    refusals.delete(guildId)
  }

  /** Requests a guild, from its position. */
  function request(guildId: string) {
    const rooms = choiceOf(guildId)
    const { pos } = trackOf(guildId)
    const id = `subscribe:${++requestCount}`
    refusals.get(guildId)?.cancel()
    unanswered.set(guildId, id)
    parts.send({
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
    const wantedTracks = [...tracks].filter(([, track]) => wanted(track))
    if (wantedTracks.length === tracks.size) return
    tracks = new Map(wantedTracks)
    guilds = new Map(wantedTracks.map(([guildId, track]) => [guildId, track.guild]))
    parts.onGuilds(guilds)
  }

  function belongToAnother(token: string): boolean {
    const next = identityOf(token)
    return next !== undefined && identity !== undefined && next !== identity
  }

  return {
    subscribe,
    unsubscribe,
    authFrame,
    onForbidden,
    begin,
    end,
    onFrame,
    forbid,
    forget,
    belongToAnother,
    persist,
    clearPersisted,
  }
}

/** Whether a later request may succeed. After too many guilds, for example, the hub names no time. */
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
