/** A page that names its guilds, with a token that does not allow all of them. */
import { expect, test } from 'vitest'
import type { RoomwireOptions } from '../src/index.js'
import { start } from './connections.js'
import { event, room, snapshot, subscribed, tokenOf, type World, welcome } from './world.js'

/** A page whose token allows `allowed`, at a hub that answers as docs/protocol.md says. */
function page(allowed: string[], options: Partial<RoomwireOptions> = {}) {
  const hub = { allowed, asked: 0 }
  const page = start({
    getToken: async () => {
      hub.asked++
      return tokenOf('ada')
    },
    ...options,
  })
  const { world, roomwire } = page
  const error = (re?: unknown) => ({
    v: 1,
    type: 'error',
    ...(re !== undefined && { re }),
    error: { code: 'FORBIDDEN', message: 'not a guild of this token' },
    ts: 0,
  })
  const begin = (guildId: string, recover: unknown, re?: unknown) => {
    const recovered = typeof recover === 'string'
    world.socket.receive(subscribed({ guildId, recovered, ...(re !== undefined && { re }) }))
    if (recovered) world.socket.receive(event('gateway.state', { state: 'live', ageMs: 10 }, { guildId }))
    else world.socket.receive(snapshot([room(`${guildId}1`)], { guildId, pos: `p${guildId}` }))
  }
  /** The hub answers the first frame, and whether it lets the page in. */
  const answerHello = () => {
    world.socket.open()
    const [hello] = world.socket.sent as [{ guilds: string[]; recover?: Record<string, string> }]
    if (hello.guilds.some(guildId => !hub.allowed.includes(guildId))) {
      world.socket.receive(error())
      world.socket.end(4403)
      return false
    }
    world.socket.receive(welcome({ guilds: hello.guilds, guildId: hello.guilds[0] }))
    for (const guildId of hello.guilds) begin(guildId, hello.recover?.[guildId])
    return true
  }
  let answered = 0
  const answerSubscribes = () => {
    const frames = subscribesOf(world)
    for (const { guildId, recover, id } of frames.slice(answered)) {
      if (hub.allowed.includes(String(guildId))) begin(String(guildId), recover, id)
      else world.socket.receive(error(id))
    }
    answered = frames.length
  }
  const arrive = async () => {
    await world.settle()
    answered = 0
    if (!answerHello()) answerHello()
    answerSubscribes()
  }
  const following = () =>
    Object.fromEntries([...roomwire.getState().guilds].map(([guildId, guild]) => [guildId, guild.following]))
  return { ...page, hub, arrive, answerHello, answerSubscribes, following }
}

const subscribesOf = (world: World) => world.socket.sent.filter(frame => frame.type === 'subscribe')

const refreshed = (world: World, guilds: string[]) => ({
  v: 1,
  type: 'ack',
  event: 'auth.refreshed',
  expiresAt: world.now + 3_600_000,
  ts: world.now,
  guilds,
})

test('a token without a guild connects a page that names guilds, and a newer one brings them', async () => {
  const { world, roomwire, hub, arrive, answerSubscribes, connection, following } = page([], {
    guilds: ['1'],
    timeouts: { quietMs: 1e8 },
  })
  roomwire.connect()
  await arrive()
  expect(connection().state).toBe('open')
  expect(world.sockets).toHaveLength(2)
  expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('ada'), guilds: [] })
  expect(following()).toEqual({ '1': 'refused' })
  expect(world.warnings).toEqual([])

  await world.pass(3_540_000)
  expect(hub.asked).toBe(2)
  expect(world.socket.lastSent('refresh')).toBeDefined()
  hub.allowed = ['1']
  world.socket.receive(refreshed(world, ['1']))
  answerSubscribes()
  expect(following()).toEqual({ '1': 'live' })
})

test('a token that allows one of two named guilds shows that one, and the other as refused', async () => {
  const { world, roomwire, arrive, following } = page(['2'], { guilds: ['1', '2'], rooms: ['21'] })
  roomwire.connect()
  await arrive()
  expect(following()).toEqual({ '1': 'refused', '2': 'live' })
  expect(subscribesOf(world)).toMatchObject([
    { guildId: '1', rooms: ['21'] },
    { guildId: '2', rooms: ['21'] },
  ])
})

test('a token that allows all named guilds costs one connection and no subscribe frame', async () => {
  const { world, roomwire, arrive, following } = page(['1', '2'], { guilds: ['1', '2'] })
  roomwire.connect()
  await arrive()
  expect(following()).toEqual({ '1': 'live', '2': 'live' })
  expect(world.sockets).toHaveLength(1)
  expect(subscribesOf(world)).toEqual([])
})

test('a page that knows which guilds are refused is forbidden once, and continues from its positions', async () => {
  const { world, roomwire, arrive, following } = page(['2'], { guilds: ['1', '2'] })
  roomwire.connect()
  await arrive()
  world.socket.end(1006)
  await world.pass(500)
  await arrive()
  expect(world.sockets).toHaveLength(3)
  expect(subscribesOf(world)).toMatchObject([{ guildId: '1' }, { guildId: '2', recover: 'p2' }])
  expect(following()).toEqual({ '1': 'refused', '2': 'live' })
})

test('a guild that is lost while the page is away leaves, and the others continue from their positions', async () => {
  const { world, roomwire, hub, arrive, following } = page(['1', '2'], { guilds: ['1', '2'] })
  roomwire.connect()
  await arrive()
  world.socket.end(1006)
  hub.allowed = ['2']
  await world.pass(500)
  await arrive()
  expect(following()).toEqual({ '1': 'refused', '2': 'live' })
  expect(roomwire.getState().guilds.get('1')?.rooms).toEqual([])
  expect(roomwire.getState().guilds.get('2')?.rooms).toHaveLength(1)
  expect(subscribesOf(world)).toMatchObject([{ guildId: '1' }, { guildId: '2', recover: 'p2' }])
})

test('a page that is forbidden, and then loses the hub, shows nothing of a guild that may be lost', async () => {
  const { world, roomwire, hub, arrive, answerHello, connection } = page(['1', '2'], { guilds: ['1', '2'] })
  roomwire.connect()
  await arrive()
  world.socket.end(1006)
  hub.allowed = ['2']
  await world.pass(500)
  expect(answerHello()).toBe(false)
  world.socket.end(1006)
  expect(connection().state).toBe('waiting')
  expect([...roomwire.getState().guilds.values()].map(guild => guild.rooms)).toEqual([[], []])
})

test('a token that allows all of them again is back to one frame', async () => {
  const { world, roomwire, hub, arrive, following } = page([], { guilds: ['1'] })
  roomwire.connect()
  await arrive()
  for (const frames of [1, 0]) {
    hub.allowed = ['1']
    world.socket.end(1006)
    await world.pass(1_000)
    await arrive()
    expect(subscribesOf(world)).toHaveLength(frames)
  }
  expect(world.sockets).toHaveLength(4)
  expect(following()).toHaveProperty('1')
})

test('a newer token that loses a named guild spares the next connection a 4403', async () => {
  const { world, roomwire, hub, arrive } = page(['1', '2'], { guilds: ['1', '2'] })
  roomwire.connect()
  await arrive()
  hub.allowed = ['2']
  world.socket.receive(refreshed(world, ['2']))
  world.socket.end(1006)
  await world.pass(500)
  await arrive()
  expect(world.sockets).toHaveLength(2)
})

test('a token that lacks rooms:read is forbidden for good, after one more attempt without guilds', async () => {
  const { world, roomwire, hub, connection, following } = page([], { guilds: ['1'] })
  roomwire.connect()
  await world.settle()
  for (let attempt = 0; attempt < 2; attempt++) {
    world.socket.open()
    world.socket.end(4403)
  }
  await world.pass(600_000)
  expect(connection()).toMatchObject({ state: 'closed', reason: { code: 4403, failure: 'forbidden' } })
  expect(following()).toEqual({})
  expect(world.sockets).toHaveLength(2)
  expect(hub.asked).toBe(1)
})

test('another person begins with one frame again', async () => {
  let person = 'ada'
  const { world, roomwire, hub, arrive } = page([], { guilds: ['1'], getToken: async () => tokenOf(person) })
  roomwire.connect()
  await arrive()
  roomwire.close()
  person = 'grace'
  hub.allowed = ['1']
  roomwire.connect()
  await arrive()
  expect(world.sockets).toHaveLength(3)
  expect(world.socket.sent[0]).toMatchObject({ guilds: ['1'] })
})
