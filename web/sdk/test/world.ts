/** A world for tests: a clock, sockets and random numbers that a test controls. */
import type { Environment, WebSocketLike } from '../src/environment.js'

export class FakeSocket implements WebSocketLike {
  onopen: (() => void) | null = null
  onmessage: ((message: { data: unknown }) => void) | null = null
  onclose: ((close: { code: number; reason: string }) => void) | null = null
  onerror: (() => void) | null = null
  readonly sent: Record<string, unknown>[] = []
  closed = false
  readonly url: string

  constructor(url: string) {
    this.url = url
  }

  send(text: string) {
    this.sent.push(JSON.parse(text))
  }

  close() {
    this.closed = true
  }

  /** The hub accepts the connection. */
  open() {
    this.onopen?.()
  }

  /** The hub sends a frame. */
  receive(frame: unknown) {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) })
  }

  /** The hub, or the network, ends it. */
  end(code: number, reason = '') {
    this.closed = true
    this.onclose?.({ code, reason })
  }

  lastSent(type: string): Record<string, unknown> | undefined {
    return this.sent.findLast(frame => frame.type === type)
  }
}

interface Timer {
  at: number
  call: () => void
}

export class World {
  now = 1_000_000
  random = 0.5
  sockets: FakeSocket[] = []
  opened: string[] = []
  requests: { url: string; init: RequestInit }[] = []
  reports: unknown[] = []
  warnings: string[] = []
  pageOrigin: string | undefined = 'https://app.example'
  answer: (url: string, init: RequestInit) => Promise<Response> = () => Promise.reject(new Error('no hub'))
  private timers = new Set<Timer>()
  private wakers = new Set<() => void>()
  private hiders = new Set<() => void>()

  readonly environment: Environment = {
    openWebSocket: url => {
      const socket = new FakeSocket(url)
      this.sockets.push(socket)
      return socket
    },
    fetch: (url, init) => {
      this.requests.push({ url, init })
      return this.answer(url, init)
    },
    now: () => this.now,
    random: () => this.random,
    after: (ms, call) => {
      const timer = { at: this.now + ms, call }
      this.timers.add(timer)
      return () => this.timers.delete(timer)
    },
    onWake: call => {
      this.wakers.add(call)
      return () => this.wakers.delete(call)
    },
    onHide: call => {
      this.hiders.add(call)
      return () => this.hiders.delete(call)
    },
    report: error => {
      this.reports.push(error)
    },
    warn: text => {
      this.warnings.push(text)
    },
    openLink: url => {
      this.opened.push(url)
    },
    pageOrigin: () => this.pageOrigin,
  }

  get timersLeft(): number {
    return this.timers.size
  }

  get wakersLeft(): number {
    return this.wakers.size
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1)
    if (!socket) throw new Error('nobody has connected')
    return socket
  }

  wake() {
    for (const call of this.wakers) call()
  }

  /** The page is about to go. */
  hide() {
    for (const call of this.hiders) call()
  }

  /** Time passes, and no timer runs: the machine sleeps. */
  sleep(ms: number) {
    this.now += ms
  }

  /** The clock is set; timers do not care. */
  shift(ms: number) {
    this.now += ms
    for (const timer of this.timers) timer.at += ms
  }

  /** Lets promises run that wait for nothing but each other. */
  async settle() {
    await new Promise(resolve => setImmediate(resolve))
  }

  /** Moves the clock, timer by timer. */
  async pass(ms: number) {
    const end = this.now + ms
    for (;;) {
      const next = [...this.timers].filter(timer => timer.at <= end).sort((a, b) => a.at - b.at)[0]
      if (!next) break
      this.now = Math.max(this.now, next.at)
      this.timers.delete(next)
      next.call()
      await this.settle()
    }
    this.now = end
    await this.settle()
  }
}

export const guildId = '100000000000000001'

/** A JWT of this subject; nobody has signed it. */
export const tokenOf = (sub: string, claims: object = {}) =>
  `e30.${Buffer.from(JSON.stringify({ sub, ...claims })).toString('base64url')}.x`

export const welcome = (over: object = {}) => ({
  v: 1,
  type: 'ack',
  event: 'auth.ok',
  guildId,
  guilds: [guildId],
  sub: 'ada',
  connectionId: 'c1',
  expiresAt: 1_000_000 + 3_600_000,
  ts: 1_000_000,
  ...over,
})

export const subscribed = (over: object = {}) => ({
  v: 1,
  type: 'ack',
  event: 'subscribed',
  guildId,
  recovered: false,
  pos: 'p0',
  ts: 0,
  ...over,
})

export const event = (name: string, payload: object, over: object = {}) => ({
  v: 1,
  type: 'event',
  event: name,
  guildId,
  payload: { guildId, ...payload },
  ts: 0,
  ...over,
})

export const snapshot = (rooms: object[] = [], over: object = {}, more: object = {}) =>
  event(
    'guild.snapshot',
    { reason: 'subscribed', rooms, gateway: { state: 'live', ageMs: 10 }, ...more },
    { pos: 'p1', n: 0, ...over },
  )

/** The gateway's state; without a number, like the hub's. */
export const gateway = (state: string, ageMs = 10, reason?: string) =>
  event('gateway.state', { state, ageMs, ...(reason && { reason }) })

export const room = (channelId: string, members: object[] = [], over: object = {}) => ({
  guildId,
  channelId,
  name: `Room ${channelId}`,
  userLimit: 4,
  members,
  ...over,
})

export const voice = (channelId: string, userId: string, over: object = {}) => ({
  guildId,
  channelId,
  userId,
  member: { displayName: `User ${userId}`, avatarUrl: `https://cdn.example/${userId}.png` },
  mute: false,
  deaf: false,
  selfMute: false,
  selfDeaf: false,
  selfVideo: false,
  selfStream: false,
  suppress: false,
  ...over,
})
