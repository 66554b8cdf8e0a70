import { describe, expect, test } from 'vitest'
import { connected, live, start } from './connections.js'
import { event, gateway, guildId, room, snapshot, subscribed, voice, type World, welcome } from './world.js'

describe('following', () => {
  test('an event that is not known still counts', async () => {
    const { world, guild } = await live()
    world.socket.receive(event('room.painted', { channelId: '11' }, { n: 1, pos: 'p2' }))
    world.socket.receive(event('voice.joined', voice('11', '3'), { n: 2, pos: 'p3' }))
    expect(guild()?.rooms[0]?.members).toHaveLength(1)
  })

  test('a guild that is subscribed later is asked for again on every connection', async () => {
    const { world, roomwire } = await live()
    roomwire.subscribe('77', ['5'])
    expect(world.socket.lastSent('subscribe')).toEqual({
      type: 'subscribe',
      guildId: '77',
      rooms: ['5'],
      id: 'subscribe:1',
    })
    world.socket.receive(subscribed({ guildId: '77', re: 'subscribe:1' }))
    world.socket.receive(snapshot([], { guildId: '77', pos: 'q1' }))
    expect(roomwire.getState().guilds.get('77')).toMatchObject({ loaded: true, stale: false })
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome())
    expect(world.socket.lastSent('subscribe')).toMatchObject({ guildId: '77', rooms: ['5'], recover: 'q1' })
  })

  test('a narrower choice of rooms never grows back, not even for a moment', async () => {
    const { world, roomwire, guild } = await live([room('11'), room('12')])
    const shown = () => guild()?.rooms.map(each => each.channelId)
    roomwire.subscribe(guildId, ['11'])
    expect(shown()).toEqual(['11'])
    // Still on its way from the wider subscription.
    world.socket.receive(snapshot([room('11'), room('12'), room('13')], { pos: 'wide' }))
    world.socket.receive(subscribed({ re: 'subscribe:1' }))
    world.socket.receive(snapshot([room('11')], { pos: 'narrow' }))
    expect(shown()).toEqual(['11'])

    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    expect(world.socket.sent[0]).not.toHaveProperty('recover')
    world.socket.receive(welcome())
    expect(world.socket.lastSent('subscribe')).toMatchObject({ rooms: ['11'], recover: 'narrow' })
    world.socket.receive(subscribed())
    world.socket.receive(snapshot([room('11'), room('12')], { pos: 'wide' }))
    world.socket.receive(event('room.created', room('14'), { n: 1, pos: 'wider' }))
    expect(shown()).toEqual(['11'])
    expect(guild()?.stale).toBe(true)
    world.socket.receive(subscribed({ re: 'subscribe:2', recovered: true, pos: 'narrow' }))
    world.socket.receive(gateway('live'))
    world.socket.receive(event('voice.joined', voice('11', '3'), { n: 1, pos: 'next' }))
    expect(shown()).toEqual(['11'])
    expect(guild()).toMatchObject({ stale: false, rooms: [{ members: [{ userId: '3' }] }] })
  })

  test('another choice of rooms, made while away, does not continue from the one before', async () => {
    const { world, roomwire } = await live([room('11')])
    world.socket.end(1006)
    roomwire.subscribe(guildId, ['12'])
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome())
    expect(world.socket.lastSent('subscribe')).toMatchObject({ rooms: ['12'] })
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
  })

  test('a refused subscription says so', async () => {
    const { world, roomwire } = await live()
    roomwire.subscribe('77')
    world.socket.receive({
      v: 1,
      type: 'error',
      re: 'subscribe:1',
      error: { code: 'FORBIDDEN', message: 'no' },
      ts: 0,
    })
    expect(roomwire.getState().guilds.get('77')?.following).toBe('refused')
  })

  const refusal = (code: string, over: object = {}, re?: string) => ({
    v: 1,
    type: 'error',
    ...(re && { re }),
    error: { code, message: 'no', ...over },
    ts: 0,
  })

  test('a hub without place is asked again when it said, with jitter and more of it each time', async () => {
    const { world, roomwire, guild } = await live()
    roomwire.subscribe(guildId, ['11'])
    const waits: number[] = []
    for (let asked = 1; asked <= 3; asked++) {
      const since = world.now
      world.socket.receive(refusal('UNAVAILABLE', { retryAfterMs: 10_000 }, `subscribe:${asked}`))
      expect(guild()).toMatchObject({ following: 'retrying', stale: true, loaded: true })
      world.socket.receive(event('voice.joined', voice('11', '9'), { n: asked, pos: 'old' }))
      expect(guild()?.rooms[0]?.members).toEqual([])
      while (guild()?.following === 'retrying') await world.pass(1)
      waits.push(world.now - since)
      expect(guild()).toMatchObject({ following: 'awaited', stale: true })
      expect(world.socket.lastSent('subscribe')).toMatchObject({
        rooms: ['11'],
        id: `subscribe:${asked + 1}`,
      })
    }
    expect(waits).toEqual([10_250, 10_500, 11_000])
    world.socket.receive(subscribed({ re: 'subscribe:4' }))
    world.socket.receive(snapshot([room('11')]))
    expect(guild()).toMatchObject({ following: 'live', stale: false })
    await world.pass(20_000)
    expect(world.socket.sent.filter(frame => frame.type === 'subscribe')).toHaveLength(4)
  })

  test('a guild of the first frame without place is asked for again', async () => {
    const { world, guild } = await connected()
    world.socket.receive(refusal('UNAVAILABLE', { retryAfterMs: 10_000 }))
    world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
    expect(guild()).toMatchObject({ following: 'retrying', loaded: false })
    await world.pass(10_250)
    expect(world.socket.lastSent('subscribe')).toMatchObject({ guildId, id: 'subscribe:1' })
  })

  test.each([
    ['INTERNAL', undefined, 'retrying'],
    ['RATE_LIMITED', 3_000, 'retrying'],
    ['RATE_LIMITED', undefined, 'refused'],
    ['NOT_FOUND', 3_000, 'refused'],
    ['BAD_REQUEST', undefined, 'refused'],
  ])('a subscription refused with %s (%s ms) is %s', async (code, retryAfterMs, following) => {
    const { world, roomwire } = await live()
    roomwire.subscribe('77')
    world.socket.receive(refusal(code, { retryAfterMs }, 'subscribe:1'))
    expect(roomwire.getState().guilds.get('77')?.following).toBe(following)
  })

  test('what is postponed ends with the connection, and with the wish', async () => {
    const { world, roomwire, guild } = await live([room('11')], { timeouts: { quietMs: 1e8 } })
    roomwire.subscribe('77')
    world.socket.receive(refusal('UNAVAILABLE', {}, 'subscribe:1'))
    roomwire.unsubscribe('77')
    roomwire.subscribe(guildId, ['11'])
    world.socket.receive(refusal('UNAVAILABLE', {}, 'subscribe:2'))
    const { socket } = world
    socket.end(1006)
    expect(guild()?.following).toBe('disconnected')
    await world.pass(30_000)
    expect(socket.sent.filter(frame => frame.type === 'subscribe')).toHaveLength(2)
  })

  test('a guild that a newer token does not allow is not shown any more', async () => {
    const { world, guild } = await live([room('11', [voice('11', '3')])])
    world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
    expect(guild()).toMatchObject({ following: 'refused', loaded: false, stale: true, rooms: [] })
    world.socket.receive(snapshot([room('11')]))
    expect(guild()?.rooms).toEqual([])
  })

  describe('a newer token', () => {
    /** The hub has taken a newer token, which allows these guilds. */
    const refreshed = (guilds?: string[]) => ({
      v: 1,
      type: 'ack',
      event: 'auth.refreshed',
      expiresAt: 5_000_000,
      ts: 1_000_000,
      ...(guilds && { guilds }),
    })
    const asked = (world: World) =>
      world.socket.sent.filter(frame => frame.type === 'subscribe').map(frame => frame.guildId)

    test('that brings a guild brings its rooms, without a new connection', async () => {
      const { world, roomwire } = await live()
      world.socket.receive(refreshed([guildId, '2']))
      expect(asked(world)).toEqual(['2'])
      world.socket.receive(subscribed({ guildId: '2', re: world.socket.lastSent('subscribe')?.id }))
      world.socket.receive(snapshot([room('21')], { guildId: '2' }))
      expect(roomwire.getState().guilds.get('2')).toMatchObject({ following: 'live', stale: false })
      expect(world.sockets).toHaveLength(1)
    })

    test('of a page that began without a guild brings the first one', async () => {
      const { world, roomwire, connection } = start()
      roomwire.connect()
      await world.settle()
      world.socket.open()
      world.socket.receive(welcome({ guilds: [], guildId: undefined }))
      expect(connection().state).toBe('open')
      expect(roomwire.getState().guilds.size).toBe(0)
      world.socket.receive(refreshed([guildId]))
      expect(asked(world)).toEqual([guildId])
    })

    test('that lost a guild makes it forgotten, and what still comes of it is ignored', async () => {
      const { world, roomwire, guild } = await live([room('11', [voice('11', '3')])])
      world.socket.receive(refreshed([]))
      expect(roomwire.getState().guilds.size).toBe(0)
      world.socket.receive({
        v: 1,
        type: 'error',
        error: { code: 'FORBIDDEN', message: 'not a guild of this token' },
        ts: 0,
      })
      world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
      world.socket.receive(event('voice.joined', voice('11', '4'), { n: 1 }))
      expect(guild()).toBeUndefined()
      // It comes back with a later token, from a snapshot.
      world.socket.receive(refreshed([guildId]))
      expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
      expect(guild()).toMatchObject({ following: 'awaited', rooms: [] })
    })

    test('that lost a guild which the page chose shows it as refused, and one that regains it asks again', async () => {
      const { world, guild } = await live([room('11')], { guilds: [guildId] })
      world.socket.receive(refreshed([]))
      world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
      expect(guild()).toMatchObject({ following: 'refused', rooms: [] })
      world.socket.receive(refreshed([guildId]))
      expect(asked(world)).toEqual([guildId])
      expect(guild()?.following).toBe('awaited')
    })

    test('asks for no guild that the page did not choose, gave up, or has no room for', async () => {
      const chooses = await live([], { guilds: [guildId] })
      chooses.world.socket.receive(refreshed([guildId, '2']))
      expect(asked(chooses.world)).toEqual([])
      const gaveUp = await live()
      gaveUp.roomwire.unsubscribe('2')
      gaveUp.world.socket.receive(refreshed([guildId, '2']))
      expect(asked(gaveUp.world)).toEqual([])
      const full = await live()
      full.world.socket.receive(refreshed([guildId, ...Array.from({ length: 200 }, (_, n) => `${n + 1}`)]))
      expect(asked(full.world)).toHaveLength(99)
    })

    test('of an older hub changes nothing: it does not say which guilds it allows', async () => {
      const { world, guild } = await live()
      world.socket.receive(refreshed())
      expect(guild()).toMatchObject({ following: 'live', stale: false })
      expect(asked(world)).toEqual([])
    })
  })

  test('a late answer to unsubscribe does not end what was asked for since', async () => {
    const { world, roomwire, guild } = await live()
    roomwire.unsubscribe(guildId)
    roomwire.subscribe(guildId)
    world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
    expect(guild()?.following).toBe('awaited')
    world.socket.receive(subscribed({ re: 'subscribe:1' }))
    world.socket.receive(snapshot([room('11')]))
    expect(guild()).toMatchObject({ following: 'live', stale: false })
  })

  test('the same choice of rooms, asked for again, continues where it is', async () => {
    const { world, roomwire } = await live([room('11'), room('12')], { rooms: ['11', '12'] })
    roomwire.subscribe(guildId, ['12', '11'])
    expect(world.socket.lastSent('subscribe')).toMatchObject({ recover: 'p1' })
    roomwire.subscribe(guildId, ['12', '12'])
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
  })

  test('an unsubscribed guild is forgotten, and left out of the next connection', async () => {
    const { world, roomwire } = await live([room('11')], { guilds: [guildId, '2'] })
    roomwire.unsubscribe(guildId)
    expect(world.socket.lastSent('unsubscribe')).toEqual({ type: 'unsubscribe', guildId })
    expect(roomwire.getState().guilds.has(guildId)).toBe(false)
    world.socket.receive(event('voice.joined', voice('11', '3'), { n: 1 }))
    expect(roomwire.getState().guilds.has(guildId)).toBe(false)
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    expect(world.socket.sent[0]).toMatchObject({ guilds: ['2'] })
  })

  test('a guild that was given up is given up again where the hub follows all', async () => {
    const { world, roomwire } = await live()
    roomwire.unsubscribe(guildId)
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome())
    world.socket.receive(subscribed())
    world.socket.receive(snapshot([room('11')]))
    expect(world.socket.lastSent('unsubscribe')).toEqual({ type: 'unsubscribe', guildId })
    expect(roomwire.getState().guilds.size).toBe(0)
  })

  test('missed events on top of nothing are not enough', async () => {
    const { world, guild } = await connected()
    world.socket.receive(subscribed({ recovered: true }))
    expect(world.socket.lastSent('subscribe')).toMatchObject({ guildId })
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
    expect(guild()?.stale).toBe(true)
  })

  test('a guild that the token does not reach any more is forgotten', async () => {
    const { world, roomwire } = await live()
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome({ guilds: ['2'], guildId: '2' }))
    expect([...roomwire.getState().guilds.keys()]).toEqual(['2'])
  })

  test('frames that mean nothing change nothing', async () => {
    const { world, roomwire } = await live()
    const before = roomwire.getState()
    for (const odd of ['', '{', 'null', '[]', '7', '{"type":"event"}', '{"type":"ack","event":"new"}']) {
      world.socket.receive(odd)
    }
    world.socket.onmessage?.({ data: new ArrayBuffer(4) })
    world.socket.receive(event('voice.joined', voice('11', '3'), { guildId: 'of nobody' }))
    expect(roomwire.getState()).toBe(before)
  })

  test('ids such as __proto__ are ids like any other', async () => {
    const { world, roomwire } = await connected()
    world.socket.receive(welcome({ guilds: ['__proto__'], guildId: '__proto__' }))
    world.socket.receive(subscribed({ guildId: '__proto__' }))
    world.socket.receive(snapshot([room('__proto__')], { guildId: '__proto__', pos: 'x' }))
    world.socket.receive(
      `{"type":"event","event":"voice.joined","guildId":"__proto__","n":1,"pos":"y","__proto__":{"bad":1},
        "payload":{"channelId":"__proto__","userId":"constructor","__proto__":{"mute":true}}}`,
    )
    const rooms = roomwire.getState().guilds.get('__proto__')?.rooms
    expect(rooms?.[0]?.members).toMatchObject([{ userId: 'constructor', mute: false }])
    expect(({} as Record<string, unknown>).bad).toBeUndefined()
    world.socket.end(1006)
    await world.pass(500)
    world.socket.open()
    const recover = world.socket.sent[0]?.recover as object
    expect(Object.entries(recover)).toEqual([['__proto__', 'y']])
  })
})
