import { hubAddress } from './address.js'
import { firstFrameBytesMax, tokenBytesMax } from './auth-frame.js'
import { type Backoff, defaultBackoff } from './backoff.js'
import { forbidden } from './close-codes.js'
import { createDiagnosis } from './diagnosis.js'
import { browserEnvironment, type Environment } from './environment.js'
import { createWarner } from './failure.js'
import type { Guild } from './guild.js'
import { type Connection, createHubConnection } from './hub-connection.js'
import { type Me, personOf } from './me.js'
import { type PersistedStorage, persistedPlace } from './persisted.js'
import { type RoomActions, roomActions } from './rest.js'
import { roomOf } from './selectors.js'
import { defaultTimeouts, type Timeouts } from './socket.js'
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
  /** The guilds to follow, at most 100. Default: every guild that the token allows, also those that a newer token adds. */
  readonly guilds?: readonly string[]
  /** Only these rooms. Without `guilds`, at most as many as fit the first frame (about 400). Default: all rooms. */
  readonly rooms?: readonly string[]
  /**
   * Where rooms and positions are stored over a reload of the page, such as `sessionStorage`. Default: nowhere, so that
   * nothing about members outlives the page. Stored are the guilds of one subject, up to 1 MiB, for at most an hour.
   * They are shown as stale until the hub has confirmed them. `close()` deletes them.
   */
  readonly persist?: PersistedStorage
  readonly backoff?: Partial<Backoff>
  readonly timeouts?: Partial<Timeouts>
  /**
   * The most bytes that the hub accepts as the first frame of a connection: its `UNAUTHENTICATED_MESSAGE_BYTES_MAX`.
   * 4,096 to 1,048,576; default 12,288. Beside the token, the frame needs about 40 bytes.
   */
  readonly firstFrameBytesMax?: number
  /** Replaces the browser in tests. */
  readonly environment?: Partial<Environment>
}

/** Everything that a page may show; immutable. */
export interface RoomwireState {
  readonly connection: Connection
  /**
   * The person that the rooms belong to; `null` until the hub has named the subject. It stays while the connection is
   * lost, and over a reload with `persist`.
   */
  readonly me: Me | null
  readonly guilds: ReadonlyMap<string, Guild>
}

/** A page's connection to a hub, over reconnects. */
export interface Roomwire extends RoomActions {
  /** The state now: the same object until something changes. */
  readonly getState: () => RoomwireState
  /** Calls `listener` after every change of the state; the returned function ends that. */
  readonly onChange: (listener: () => void) => () => void
  /**
   * Connects. While it waits for its next attempt, it tries at once. After `close()` it begins as a new page does:
   * without the earlier token, subject, rooms and positions.
   */
  readonly connect: () => void
  /**
   * Disconnects and does not reconnect, as when a person signs out. The token is dropped at once. A command that
   * waits for a token is not sent. The rooms stay visible, as stale, until the next `connect()`.
   */
  readonly close: () => void
  /** Follows one more guild, or another choice of its rooms, also after reconnects. */
  readonly subscribe: (guildId: string, rooms?: readonly string[]) => void
  /** Ends following a guild, and forgets it. */
  readonly unsubscribe: (guildId: string) => void
}

/**
 * Creates a connection to a hub. Nothing happens before `connect()`.
 *
 * @throws TypeError if `url` is not an address of a hub
 */
export function createRoomwire(options: RoomwireOptions): Roomwire {
  const environment: Environment = { ...browserEnvironment, ...options.environment }
  const base = hubAddress(options.url)
  const diagnosis = createDiagnosis(base, environment)
  const warn = createWarner(environment.warn)
  const frameBytesMax = options.firstFrameBytesMax ?? firstFrameBytesMax
  const backoff = { ...defaultBackoff, ...options.backoff }
  const tokens = tokenSource(options.getToken, environment, token => {
    // The token belongs to another person: the page must not show one person's rooms and act as another.
    if (!subscriptions.belongToAnother(token)) return
    subscriptions.forget()
    connection.restart()
  })
  const nothing: RoomwireState = {
    connection: { state: 'closed', reason: null },
    me: null,
    guilds: new Map(),
  }
  const store = createStore(nothing, environment.report)
  let endHide: (() => void) | null = null
  let signedOut = false
  /** Whether `connect()` was called in this task. */
  let connectedNow = false

  const subscriptions = createSubscriptions({
    guilds: options.guilds,
    rooms: options.rooms,
    firstFrameBytesMax: frameBytesMax,
    persisted: persistedPlace(options.persist, base),
    backoff,
    environment,
    send: frame => connection.send(frame),
    onBroken: why => connection.drop(why),
    onSubject: sub => store.set({ ...store.get(), me: sub ? personOf(sub) : null }),
    onGuilds: guilds => store.set({ ...store.get(), guilds }),
  })
  const connection = createHubConnection({
    url: `${base.replace(/^http/, 'ws')}/api/ws`,
    tokens,
    diagnosis,
    firstFrameBytesMax: frameBytesMax,
    backoff,
    timeouts: { ...defaultTimeouts, ...options.timeouts },
    environment,
    authFrame: subscriptions.authFrame,
    onForbidden: subscriptions.onForbidden,
    onState: state => {
      if (state.state !== 'open') subscriptions.end()
      if (state.state === 'closed' && state.reason?.code === forbidden) subscriptions.forbid()
      if ((state.state === 'waiting' || state.state === 'closed') && state.reason) warn(state.reason)
      store.set({ ...store.get(), connection: state })
    },
    onAuthOk: ({ sub, guilds }) => subscriptions.begin(sub, guilds),
    onFrame: subscriptions.onFrame,
    onRenewalFailed: warn,
  })

  function connect() {
    if (options.persist) endHide ??= environment.onHide(onHide)
    // After signing out, another person may connect.
    if (signedOut) subscriptions.forget()
    signedOut = false
    if (store.get().connection.state === 'closed') {
      connectedNow = true
      void Promise.resolve().then(() => {
        connectedNow = false
      })
    }
    connection.connect()
  }

  function close() {
    endHide?.()
    endHide = null
    signedOut = true
    tokens.signOut()
    // React's StrictMode mounts, unmounts and mounts again in one task, without signing out.
    if (connectedNow) void Promise.resolve().then(clearPersisted)
    else subscriptions.clearPersisted()
    connection.close()
  }

  function clearPersisted() {
    if (signedOut) subscriptions.clearPersisted()
  }

  function onHide() {
    // After a close for good, the next page begins with snapshots.
    if (store.get().connection.state !== 'closed') subscriptions.persist()
  }

  return {
    ...roomActions({
      base,
      tokens,
      diagnosis,
      environment,
      tokenBytesMax: tokenBytesMax(frameBytesMax),
      onFailure: warn,
      roomOf: channelId => roomOf(store.get(), channelId),
    }),
    getState: store.get,
    onChange: store.subscribe,
    connect,
    close,
    subscribe: subscriptions.subscribe,
    unsubscribe: subscriptions.unsubscribe,
  }
}
