import { describe, expect, test } from 'vitest'
import { connected, live, start } from './connections.js'
import { event, guildId, room, snapshot, subscribed, voice, World, welcome } from './world.js'

describe('connecting', () => {
  test('nothing happens before connect', async () => {
    const { world, connection } = start()
    await world.settle()
    expect(world.sockets).toHaveLength(0)
    expect(connection()).toEqual({ state: 'closed', reason: null })
  })

  test('the token goes into the first frame, and never into the address', async () => {
    const { world, connection } = await connected()
    expect(world.socket.url).toBe('wss://hub.example/api/ws')
    expect(world.socket.sent).toEqual([{ type: 'auth', token: 'token-1' }])
    expect(connection()).toEqual({ state: 'open', connectionId: 'c1', sub: 'ada' })
  })

  test('the auth frame names the guilds and rooms that were asked for', async () => {
    const { world } = await connected({ guilds: ['1', '2'], rooms: ['3'] })
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: 'token-1', guilds: ['1', '2'], rooms: ['3'] })
  })

  test('a plain http hub is reached over ws', async () => {
    const { world } = await connected({ url: 'http://127.0.0.1:3000' })
    expect(world.socket.url).toBe('ws://127.0.0.1:3000/api/ws')
  })

  test('without a token it waits and calls getToken again', async () => {
    let asked = 0
    const { world, roomwire, connection } = start({
      getToken: () => (++asked === 1 ? Promise.reject(new Error('signed out')) : Promise.resolve('t')),
    })
    roomwire.connect()
    await world.settle()
    expect(connection()).toMatchObject({ state: 'waiting', reason: { code: null, failure: 'token_failed' } })
    await world.pass(500)
    expect(asked).toBe(2)
    expect(world.sockets).toHaveLength(1)
  })

  test.each([
    ['the page of a proxy', '<p>'.repeat(2_000)],
    ['nothing', ''],
  ])('%s is no token: it waits and asks again', async (_, token) => {
    const { world, roomwire, connection } = start({ getToken: async () => token })
    roomwire.connect()
    await world.settle()
    expect(connection()).toMatchObject({
      state: 'waiting',
      reason: { code: null, failure: 'token_malformed' },
    })
    expect(world.sockets).toHaveLength(0)
  })

  test('a getToken that never answers does not block it for ever', async () => {
    const { world, roomwire, connection } = start({ getToken: () => new Promise(() => {}) })
    roomwire.connect()
    await world.pass(15_000)
    expect(connection().state).toBe('waiting')
  })

  test('an attempt without an answer in time ends', async () => {
    const { world, roomwire, connection } = start()
    roomwire.connect()
    await world.settle()
    world.socket.open()
    await world.pass(14_999)
    expect(connection().state).toBe('connecting')
    await world.pass(1)
    expect(connection()).toMatchObject({
      state: 'waiting',
      reason: { code: 1006, text: 'no answer in time' },
    })
    expect(world.socket.closed).toBe(true)
  })

  test('an unusable address is not retried', async () => {
    const world = new World()
    const openWebSocket = () => {
      throw new SyntaxError('not an address')
    }
    const { roomwire, connection } = start({ environment: { ...world.environment, openWebSocket } })
    roomwire.connect()
    await world.settle()
    expect(connection()).toMatchObject({ state: 'closed', reason: { code: null } })
  })

  test('closing ends the socket, the timers and the listeners of the page', async () => {
    const { world, roomwire, connection, guild } = await live()
    roomwire.close()
    expect(connection()).toEqual({ state: 'closed', reason: null })
    expect(guild()).toMatchObject({ following: 'disconnected', stale: true, loaded: true })
    expect(world.socket.closed).toBe(true)
    expect(world.timersLeft).toBe(0)
    expect(world.wakersLeft).toBe(0)
  })

  test('frames of a closed socket are ignored', async () => {
    const { world, roomwire, guild } = await live()
    const late = world.socket
    roomwire.close()
    late.receive(event('voice.joined', voice('11', '3'), { n: 1 }))
    expect(guild()?.rooms[0]?.members).toEqual([])
  })
})

describe('reconnecting', () => {
  test('a lost connection is retried with jitter, and the waits grow', async () => {
    const { world, connection } = await connected()
    world.random = 0.999
    const waits: number[] = []
    for (let i = 0; i < 8; i++) {
      world.socket.end(1006)
      const now = connection()
      if (now.state !== 'waiting') throw new Error(`not waiting but ${now.state}`)
      waits.push(now.nextAttemptAt - world.now)
      await world.pass(waits[i] ?? 0)
    }
    expect(waits).toEqual([499, 999, 1998, 3996, 7992, 14_985, 14_985, 14_985])
  })

  test('a connection that was open for long enough resets the backoff', async () => {
    const { world, connection } = await connected()
    world.random = 0.999
    for (let i = 0; i < 5; i++) {
      world.socket.end(1006)
      await world.pass(15_000)
    }
    world.socket.open()
    world.socket.receive(welcome())
    await world.pass(10_000)
    world.socket.end(1006)
    expect(connection()).toMatchObject({ nextAttemptAt: world.now + 499 })
  })

  test('a hub that accepts and closes at once does not reset it', async () => {
    const { world, connection } = await connected()
    world.random = 0.999
    world.socket.end(1013)
    await world.pass(499)
    world.socket.open()
    world.socket.receive(welcome())
    world.socket.end(1013)
    expect(connection()).toMatchObject({ nextAttemptAt: world.now + 999 })
  })

  test('a page that closes and connects resets it', async () => {
    const { world, roomwire, connection } = await connected()
    world.random = 0.999
    for (let i = 0; i < 3; i++) {
      world.socket.end(1006)
      await world.pass(15_000)
    }
    roomwire.close()
    roomwire.connect()
    await world.settle()
    world.socket.end(1006)
    expect(connection()).toMatchObject({ nextAttemptAt: world.now + 499 })
  })

  test('a draining hub names the time to reconnect', async () => {
    const { world, connection } = await connected()
    world.socket.receive({ v: 1, type: 'notice', event: 'draining', reconnectAfterMs: 4_321, ts: 0 })
    world.socket.end(1012)
    expect(connection()).toMatchObject({ state: 'waiting', nextAttemptAt: world.now + 4_321 })
    world.wake()
    await world.pass(4_320)
    expect(world.sockets).toHaveLength(1)
    await world.pass(1)
    expect(world.sockets).toHaveLength(2)
  })

  test('after 4429, the last error frame names the time to reconnect', async () => {
    const { world, connection } = await connected()
    world.socket.receive({
      v: 1,
      type: 'error',
      error: { code: 'RATE_LIMITED', message: 'slow down', retryAfterMs: 7_000 },
      ts: 0,
    })
    world.socket.end(4429)
    expect(connection()).toMatchObject({ state: 'waiting', nextAttemptAt: world.now + 7_000 })
  })

  test('a refused token is replaced by another one', async () => {
    const { world, wishes } = await connected()
    world.socket.end(4401)
    await world.pass(500)
    world.socket.open()
    expect(wishes).toEqual(['connect', 'refused'])
    expect(world.socket.sent[0]).toMatchObject({ token: 'token-2' })
  })

  test('connect at once after a refused token needs another token too', async () => {
    const { world, wishes, roomwire } = await connected()
    world.socket.end(4401)
    roomwire.connect()
    await world.settle()
    world.socket.open()
    expect(wishes).toEqual(['connect', 'refused'])
    expect(world.socket.sent[0]).toMatchObject({ token: 'token-2' })
  })

  test('a refused token is not used again after a rest', async () => {
    const { world, roomwire } = await connected()
    world.socket.end(4401)
    roomwire.close()
    roomwire.connect()
    await world.settle()
    world.socket.open()
    expect(world.socket.sent[0]).toMatchObject({ token: 'token-2' })
  })

  test('a valid token is used again', async () => {
    const { world, wishes } = await connected()
    world.socket.end(1006)
    await world.pass(500)
    expect(world.sockets).toHaveLength(2)
    expect(wishes).toEqual(['connect'])
  })

  test.each([1000, 1002, 1003, 1007, 1008, 1009, 4400, 4403])(
    'after %i it does not reconnect',
    async code => {
      const { world, connection, guild } = await live()
      world.socket.end(code)
      await world.pass(600_000)
      expect(connection()).toMatchObject({ state: 'closed', reason: { code } })
      expect(guild()?.stale).toBe(true)
      expect(world.sockets).toHaveLength(1)
    },
  )

  test('after a final close, connect tries again', async () => {
    const { world, roomwire } = await connected()
    world.socket.end(4403)
    roomwire.connect()
    await world.settle()
    expect(world.sockets).toHaveLength(2)
  })

  test('a page that becomes visible does not wait any longer', async () => {
    const { world } = await connected()
    world.socket.end(1006)
    world.wake()
    await world.settle()
    expect(world.sockets).toHaveLength(2)
  })

  test('it recovers from the last position', async () => {
    const { world } = await live()
    world.socket.receive(event('voice.joined', voice('11', '3'), { n: 1, pos: 'p2' }))
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p2' } })
  })

  test('the first frame stays within the limit for any number of guilds', async () => {
    const guilds = Array.from({ length: 100 }, (_, n) => String(100_000_000_000_000_000n + BigInt(n)))
    const { world, roomwire } = await connected()
    world.socket.receive(welcome({ guilds }))
    for (const guildId of guilds) {
      world.socket.receive(subscribed({ guildId }))
      world.socket.receive(snapshot([room('11')], { guildId, pos: 'p'.repeat(96) }))
    }
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    const [hello] = world.socket.sent
    const bytes = JSON.stringify(hello).length
    expect(bytes).toBeLessThanOrEqual(12_288)
    expect(bytes).toBeGreaterThan(12_000)
    expect(hello).not.toHaveProperty('guilds')
    // Guilds without a position in the frame get a snapshot, and keep their rooms until then.
    world.socket.receive(welcome({ guilds }))
    world.socket.receive(snapshot([room('12')], { guildId: guilds[99], pos: 'q' }))
    expect(roomwire.getState().guilds.size).toBe(100)
    expect(roomwire.getState().guilds.get(guilds[99] ?? '')).toMatchObject({ stale: false })
  })

  test('guilds and rooms that do not fit the first frame get their own subscribe frames', async () => {
    const guilds = Array.from({ length: 100 }, (_, n) => String(100_000_000_000_000_000n + BigInt(n)))
    const rooms = Array.from({ length: 600 }, (_, n) => String(300_000_000_000_000_000n + BigInt(n)))
    const { world, roomwire } = start({ guilds, rooms })
    roomwire.connect()
    await world.settle()
    world.socket.open()
    expect(world.socket.sent).toEqual([{ type: 'auth', token: 'token-1', guilds: [] }])
    world.socket.receive(welcome({ guilds: [], guildId: undefined }))
    const asked = world.socket.sent.filter(frame => frame.type === 'subscribe')
    expect(asked.map(frame => frame.guildId)).toEqual(guilds)
    expect(asked[0]).toMatchObject({ rooms })
    expect(roomwire.getState().guilds.size).toBe(100)
  })

  test('without recovery it is stale until the snapshot', async () => {
    const { world, guild } = await live([room('11', [voice('11', '3')])])
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome())
    world.socket.receive(subscribed())
    expect(guild()).toMatchObject({ stale: true, following: 'awaited' })
    world.socket.receive(snapshot([room('12')]))
    expect(guild()).toMatchObject({ stale: false })
    expect(guild()?.rooms.map(each => each.channelId)).toEqual(['12'])
  })
})

describe('staying alive', () => {
  test('a silent connection gets a ping, and stays open after a pong', async () => {
    const { world, connection } = await connected()
    await world.pass(25_000)
    expect(world.socket.lastSent('ping')).toEqual({ type: 'ping' })
    world.socket.receive({ v: 1, type: 'ack', event: 'pong', ts: 0 })
    await world.pass(10_000)
    expect(connection().state).toBe('open')
  })

  test('a connection without a pong ends', async () => {
    const { world, connection } = await connected()
    await world.pass(35_000)
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'no answer to a ping' } })
    expect(world.socket.closed).toBe(true)
  })

  test('a page that becomes visible sends a ping', async () => {
    const { world } = await connected()
    world.wake()
    expect(world.socket.lastSent('ping')).toBeDefined()
  })

  test('the token is renewed before it expires', async () => {
    const { world, wishes } = await connected({ timeouts: { quietMs: 100_000_000 } })
    await world.pass(3_540_000)
    expect(wishes).toEqual(['connect', 'expiring'])
    expect(world.socket.lastSent('refresh')).toMatchObject({ token: 'token-2' })
    world.socket.receive({
      v: 1,
      type: 'ack',
      event: 'auth.refreshed',
      expiresAt: world.now + 3_600_000,
      ts: world.now,
    })
    await world.pass(3_540_000)
    expect(wishes).toHaveLength(3)
  })

  test('a wrong clock here does not matter for the renewal', async () => {
    const world = new World()
    world.now = 9_999_999_999
    const { roomwire, wishes } = start({ environment: world.environment, timeouts: { quietMs: 1e8 } })
    roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome())
    await world.pass(3_539_999)
    expect(wishes).toHaveLength(1)
    await world.pass(1)
    expect(wishes).toHaveLength(2)
  })

  test('a token of a short life is renewed after three quarters of it', async () => {
    const { world, wishes, roomwire } = start()
    roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome({ expiresAt: 1_000_000 + 20_000 }))
    await world.pass(14_999)
    expect(wishes).toHaveLength(1)
    await world.pass(1)
    expect(wishes).toHaveLength(2)
  })

  test('a renewal that the hub refuses is retried, and the waits grow', async () => {
    const { world } = await connected({ timeouts: { quietMs: 1e8 } })
    world.random = 0.999
    await world.pass(3_540_000)
    const waits: number[] = []
    for (let i = 0; i < 5; i++) {
      const { now } = world
      const sent = world.socket.sent.length
      world.socket.receive({
        v: 1,
        type: 'error',
        re: 'refresh',
        error: { code: 'UNAVAILABLE', message: 'no' },
        ts: 0,
      })
      while (world.socket.sent.length === sent) await world.pass(1)
      waits.push(world.now - now)
    }
    expect(waits).toEqual([1_999, 2_998, 4_996, 8_992, 15_985])
  })

  test('a renewal without a token is retried', async () => {
    let asked = 0
    const { world } = await connected({
      timeouts: { quietMs: 1e8 },
      getToken: async () => {
        asked++
        if (asked === 2) throw new Error('offline')
        return `token-${asked}`
      },
    })
    await world.pass(3_540_000)
    expect(world.socket.lastSent('refresh')).toBeUndefined()
    await world.pass(10_000)
    expect(world.socket.lastSent('refresh')).toMatchObject({ token: 'token-3' })
  })
})

test('one listener that throws does not stop the others', async () => {
  const { roomwire, world } = start()
  const failure = new Error('of the page')
  let received = 0
  roomwire.onChange(() => {
    throw failure
  })
  roomwire.onChange(() => received++)
  roomwire.connect()
  expect(received).toBe(1)
  expect(world.reports).toEqual([failure])
})
