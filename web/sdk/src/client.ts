import { hubAddress } from './address.js'
import { type Backoff, defaultBackoff } from './backoff.js'
import { forbidden } from './close-codes.js'
import { createDiagnosis } from './diagnosis.js'
import { browserEnvironment, type Environment } from './environment.js'
import { createWarner } from './failure.js'
import type { Guild } from './guild.js'
import { firstFrameBytesMax, tokenBytesMax } from './hello.js'
import { type KeptStorage, keptPlace } from './kept.js'
import { type Connection, createLine } from './line.js'
import { type RoomActions, roomActions } from './rest.js'
import { defaultPatience, type Patience } from './socket.js'
import { createStore } from './store.js'
import { createSubscriptions } from './subscriptions.js'
import { type GetToken, tokenSource } from './token.js'

export interface RoomwireOptions {
  /**
   * The hub's address, such as `https://hub.example`; in a page that the hub serves: `location.origin`. It begins with
   * `http://` or `https://`, and may have a path; anything else makes `createRoomwire` throw.
   */
  readonly url: string
  /** Gives a token of the app's own session, whenever one is needed. */
  readonly getToken: GetToken
  /** Which guilds to follow, at most 100; left out: all that the token allows, also those that a newer token brings. */
  readonly guilds?: readonly string[]
  /** Only these rooms; without `guilds`, as many as fit the first frame (about 400); left out: all. */
  readonly rooms?: readonly string[]
  /**
   * Where to keep, over a reload of the page, what was shown and where to continue: `sessionStorage`, say. Left out:
   * nowhere, and nothing of the members outlives the page. Kept are the guilds of one subject for at most an hour,
   * up to 1 MiB; they are shown as stale until the hub has confirmed them, and forgotten by `close()`.
   */
  readonly persist?: KeptStorage
  readonly backoff?: Partial<Backoff>
  readonly patience?: Partial<Patience>
  /**
   * How many bytes the hub accepts as the first frame of a connection: its `UNAUTHENTICATED_MESSAGE_BYTES_MAX`. 4,096 to
   * 1,048,576; default 12,288. A token has room in it beside about 40 bytes.
   */
  readonly firstFrameBytesMax?: number
  /** What tests put in place of the browser. */
  readonly environment?: Partial<Environment>
}

/** Everything that a page may show; immutable. */
export interface RoomwireState {
  readonly connection: Connection
  readonly guilds: ReadonlyMap<string, Guild>
}

/** A page's line to a hub. */
export interface Roomwire extends RoomActions {
  /** The state now: the same object until something changes. */
  readonly getState: () => RoomwireState
  /** Calls back after every change of the state; the answer ends that. */
  readonly listen: (listener: () => void) => () => void
  /**
   * Connects; or, if it waits for its next attempt, tries at once. After `close()` it begins as a new page does:
   * without the token, subject, rooms and positions from before.
   */
  readonly connect: () => void
  /**
   * Disconnects and stays away, as when a person signs out. The token is dropped at once, and a command that still
   * waits for one is not sent. What was known can be seen, as stale, until the next `connect()`.
   */
  readonly close: () => void
  /** Follows one more guild, or another choice of its rooms; kept over reconnects. */
  readonly subscribe: (guildId: string, rooms?: readonly string[]) => void
  /** Follows a guild no longer, and forgets it. */
  readonly unsubscribe: (guildId: string) => void
}

/**
 * Makes a line to a hub. It rests until `connect()`.
 *
 * @throws TypeError if `url` is no address of a hub
 */
export function createRoomwire(options: RoomwireOptions): Roomwire {
  const environment: Environment = { ...browserEnvironment, ...options.environment }
  const base = hubAddress(options.url)
  const diagnosis = createDiagnosis(base, environment)
  const warn = createWarner(environment.warn)
  const frameBytesMax = options.firstFrameBytesMax ?? firstFrameBytesMax
  const backoff = { ...defaultBackoff, ...options.backoff }
  const tokens = tokenSource(options.getToken, environment, token => {
    // The app has another person now: the page must not show one person's rooms and act as another.
    if (!subscriptions.areOfAnother(token)) return
    subscriptions.forget()
    line.restart()
  })
  const nothing: RoomwireState = { connection: { state: 'closed', reason: null }, guilds: new Map() }
  const store = createStore(nothing, environment.report)
  let endHide: (() => void) | null = null
  let signedOut = false
  /** Whether the page connected in this very moment, before anything could happen. */
  let begins = false

  const subscriptions = createSubscriptions({
    guilds: options.guilds,
    rooms: options.rooms,
    firstFrameBytesMax: frameBytesMax,
    kept: keptPlace(options.persist, base),
    backoff,
    environment,
    say: frame => line.say(frame),
    onBroken: why => line.drop(why),
    onGuilds: guilds => store.set({ ...store.get(), guilds }),
  })
  const line = createLine({
    url: `${base.replace(/^http/, 'ws')}/api/ws`,
    tokens,
    diagnosis,
    firstFrameBytesMax: frameBytesMax,
    backoff,
    patience: { ...defaultPatience, ...options.patience },
    environment,
    hello: subscriptions.hello,
    onForbidden: subscriptions.onForbidden,
    onState: connection => {
      if (connection.state !== 'open') subscriptions.end()
      if (connection.state === 'closed' && connection.reason?.code === forbidden) subscriptions.forbid()
      if ((connection.state === 'waiting' || connection.state === 'closed') && connection.reason)
        warn(connection.reason)
      store.set({ ...store.get(), connection })
    },
    onWelcome: welcome => subscriptions.begin(welcome.sub, welcome.guilds),
    onFrame: subscriptions.onFrame,
    onRenewalFailed: warn,
  })

  function connect() {
    if (options.persist) endHide ??= environment.onHide(onHide)
    // The person who connects now may be another one than the person who left.
    if (signedOut) subscriptions.forget()
    signedOut = false
    if (store.get().connection.state === 'closed') {
      begins = true
      void Promise.resolve().then(() => {
        begins = false
      })
    }
    line.connect()
  }

  function close() {
    endHide?.()
    endHide = null
    signedOut = true
    tokens.signOut()
    // React's StrictMode mounts, unmounts and mounts again at once: nobody signs out then.
    if (begins) void Promise.resolve().then(forgetKept)
    else subscriptions.keepNothing()
    line.close()
  }

  function forgetKept() {
    if (signedOut) subscriptions.keepNothing()
  }

  function onHide() {
    // A page that the hub sent away begins anew.
    if (store.get().connection.state !== 'closed') subscriptions.keep()
  }

  return {
    ...roomActions({
      base,
      tokens,
      diagnosis,
      environment,
      tokenBytesMax: tokenBytesMax(frameBytesMax),
      onFailure: warn,
    }),
    getState: store.get,
    listen: store.listen,
    connect,
    close,
    subscribe: subscriptions.subscribe,
    unsubscribe: subscriptions.unsubscribe,
  }
}
