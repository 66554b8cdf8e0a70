/** A person signs out, and perhaps another one signs in: nothing of the first is used or shown for the second. */
import { describe, expect, test } from 'vitest'
import { type RoomwireOptions, RoomwireProblem } from '../src/index.js'
import { start } from './connections.js'
import { gateway, guildId, room, snapshot, subscribed, tokenOf, voice, type World, welcome } from './world.js'

/** A page whose app has signed in `person`, who may change meanwhile. */
function newPage(options: Partial<RoomwireOptions> = {}) {
  const app = { person: 'ada' }
  const page = start({ getToken: async () => tokenOf(app.person), ...options })
  const arrive = async (sub: string = app.person) => {
    await page.world.settle()
    page.world.socket.open()
    page.world.socket.receive(welcome({ sub }))
  }
  return { ...page, app, arrive }
}

async function live(options: Partial<RoomwireOptions> = {}) {
  const page = newPage(options)
  page.roomwire.connect()
  await page.arrive()
  page.world.socket.receive(subscribed())
  page.world.socket.receive(snapshot([room('11', [voice('11', '7')])]))
  return page
}

const bearers = (world: World) =>
  world.requests.map(({ init }) => (init.headers as Record<string, string>).authorization)

describe('the next connect', () => {
  test('authenticates as the person who is signed in now, though the former token still holds', async () => {
    const { world, roomwire, app, connection, arrive } = await live()
    roomwire.close()
    app.person = 'grace'
    roomwire.connect()
    await arrive()
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
    expect(connection()).toMatchObject({ state: 'open', sub: 'grace' })
  })

  test('shows nothing of the former person, and continues from none of their positions', async () => {
    const { world, roomwire, app, guild, arrive } = await live()
    roomwire.close()
    expect(guild()).toMatchObject({ loaded: true, stale: true, following: 'disconnected' })
    expect(guild()?.rooms).toHaveLength(1)
    app.person = 'grace'
    roomwire.connect()
    expect(roomwire.getState().guilds.size).toBe(0)
    await arrive()
    expect(world.socket.sent[0]).not.toHaveProperty('recover')
    expect(guild()).toMatchObject({ loaded: false, rooms: [] })
  })

  test('begins without positions for the same person too, and with a token that is no JWT', async () => {
    const { world, roomwire, arrive } = await live({ getToken: async () => 'opaque' })
    roomwire.close()
    roomwire.connect()
    expect(roomwire.getState().guilds.size).toBe(0)
    await arrive('ada')
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: 'opaque' })
  })

  test('follows what the page chose to follow, from a snapshot', async () => {
    const { world, roomwire, app, guild, arrive } = await live()
    roomwire.subscribe(guildId, ['11'])
    roomwire.unsubscribe('2')
    roomwire.close()
    app.person = 'grace'
    roomwire.connect()
    expect(guild()).toMatchObject({ loaded: false, rooms: [] })
    await arrive()
    world.socket.receive(welcome({ sub: 'grace', guilds: ['2'], guildId: '2' }))
    const asked = world.socket.lastSent('subscribe')
    expect(asked).toMatchObject({ guildId, rooms: ['11'] })
    expect(asked).not.toHaveProperty('recover')
  })

  test('does not take the answer that getToken owes to the former person', async () => {
    const answers: ((token: string) => void)[] = []
    const { world, roomwire } = start({
      getToken: () => new Promise(resolve => answers.push(resolve)),
    })
    roomwire.connect()
    await world.settle()
    roomwire.close()
    roomwire.connect()
    await world.settle()
    expect(answers).toHaveLength(2)
    answers[0]?.(tokenOf('ada'))
    await world.settle()
    expect(world.sockets).toHaveLength(0)
    answers[1]?.(tokenOf('grace'))
    await world.settle()
    world.socket.open()
    expect(world.socket.sent[0]).toMatchObject({ token: tokenOf('grace') })
    expect(world.sockets).toHaveLength(1)
  })

  test('asks for any token, also where the former person left after a refused one', async () => {
    const { world, wishes, roomwire } = start()
    roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.end(4401)
    roomwire.close()
    roomwire.connect()
    await world.settle()
    expect(wishes).toEqual(['connect', 'connect'])
  })

  test.each([1008, 4400, 4403])(
    'after the hub ended it with %i asks the app for a token again',
    async code => {
      const { world, roomwire, app, guild, arrive } = await live()
      world.socket.end(code)
      app.person = 'grace'
      roomwire.connect()
      await arrive()
      expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
      expect(guild()).toMatchObject({ loaded: false, rooms: [] })
    },
  )
})

describe('commands', () => {
  test('after signing out are the next person’s, before and after the page has connected', async () => {
    const { world, roomwire, app, arrive } = await live()
    world.answer = async () => new Response('{"ok":true}')
    await roomwire.endRoom('5')
    roomwire.close()
    app.person = 'grace'
    await roomwire.endRoom('5')
    roomwire.connect()
    await arrive()
    await roomwire.endRoom('5')
    expect(bearers(world)).toEqual(['ada', 'grace', 'grace'].map(sub => `Bearer ${tokenOf(sub)}`))
  })

  test('that wait for a token when the page signs out are not sent', async () => {
    const answers: ((token: string) => void)[] = []
    const { world, roomwire } = start({
      getToken: () => new Promise(resolve => answers.push(resolve)),
    })
    const refused = roomwire.endRoom('5').catch((error: unknown) => error)
    await world.settle()
    roomwire.close()
    expect(await refused).toBeInstanceOf(RoomwireProblem)
    expect(await refused).toMatchObject({ code: 'UNAUTHORIZED', status: 0 })
    answers[0]?.(tokenOf('grace'))
    await world.settle()
    expect(world.requests).toEqual([])
    expect(world.timersLeft).toBe(0)
  })

  test('that the page gives in the moment before it signs out are not sent either', async () => {
    const { world, roomwire } = await live()
    const refused = roomwire.endRoom('5').catch((error: unknown) => error)
    roomwire.close()
    expect(await refused).toMatchObject({ code: 'UNAUTHORIZED', status: 0 })
    expect(world.requests).toEqual([])
  })

  test('of one person are not repeated with the token of another, with or without signing out', async () => {
    for (const signOut of [true, false]) {
      const { world, roomwire, app } = await live()
      let answer = (_: Response) => {}
      world.answer = () => new Promise(resolve => (answer = resolve))
      const refused = roomwire.createRoom().catch((error: unknown) => error)
      await world.settle()
      if (signOut) roomwire.close()
      app.person = 'grace'
      answer(new Response('', { status: 401 }))
      expect(await refused).toMatchObject({ code: 'UNAUTHORIZED' })
      expect(bearers(world)).toEqual([`Bearer ${tokenOf('ada')}`])
    }
  })
})

describe('another person without signing out', () => {
  test('is noticed by the token of a renewal: the page connects as them, and shows nothing of the first', async () => {
    const { world, roomwire, app, guild, connection, arrive } = await live({ timeouts: { quietMs: 1e8 } })
    app.person = 'grace'
    await world.pass(3_540_000)
    expect(world.sockets).toHaveLength(2)
    expect(world.sockets[0]?.lastSent('refresh')).toBeUndefined()
    expect(roomwire.getState().guilds.size).toBe(0)
    await arrive()
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
    expect(guild()).toMatchObject({ loaded: false, rooms: [] })
    expect(connection()).toMatchObject({ state: 'open', sub: 'grace' })
  })

  test('is noticed by the token of a command', async () => {
    const { world, roomwire, app, arrive } = await live()
    world.now += 3_580_000
    app.person = 'grace'
    world.answer = async () => new Response('{"ok":true}')
    await roomwire.endRoom('5')
    expect(bearers(world)).toEqual([`Bearer ${tokenOf('grace')}`])
    expect(roomwire.getState().guilds.size).toBe(0)
    await arrive()
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
  })

  test('is noticed by the token of a command while the page still connects', async () => {
    const { world, roomwire, app, arrive } = newPage()
    roomwire.connect()
    await world.settle()
    app.person = 'grace'
    world.answer = async () => new Response('{"ok":true}')
    await roomwire.endRoom('5')
    expect(world.sockets.map(socket => socket.closed)).toEqual([true, false])
    await arrive()
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
  })

  test.each([1006, 1013, 4401, 4429, 1008, 4400])(
    'is noticed by the token of a command after %i: the rooms of the first leave the page',
    async code => {
      const { world, roomwire, app, guild, arrive } = await live({ backoff: { baseMs: 1e7, capMs: 1e7 } })
      world.answer = async () => new Response('{"ok":true}')
      world.socket.end(code)
      world.now += 3_580_000
      expect(guild()?.rooms).toHaveLength(1)
      app.person = 'grace'
      await roomwire.endRoom('5')
      expect(bearers(world)).toEqual([`Bearer ${tokenOf('grace')}`])
      expect(roomwire.getState().guilds.size).toBe(0)
      expect(world.sockets).toHaveLength(1)
      roomwire.connect()
      await arrive()
      expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
    },
  )

  test('is noticed by the token of a command after close: the rooms of the first leave the page', async () => {
    const { world, roomwire, app, guild } = await live()
    world.answer = async () => new Response('{"ok":true}')
    roomwire.close()
    await roomwire.endRoom('5')
    expect(guild()?.rooms).toHaveLength(1)
    app.person = 'grace'
    await roomwire.endRoom('5')
    expect(roomwire.getState().guilds.size).toBe(0)
  })

  test('is noticed after 4401, before the hub has answered', async () => {
    const { world, roomwire, app } = await live()
    world.socket.end(4401)
    app.person = 'grace'
    await world.pass(500)
    expect(roomwire.getState().guilds.size).toBe(0)
    world.socket.open()
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
  })
})

test('a hub that prefixes subjects does not make a page forget its rooms at each reconnect', async () => {
  const { world, roomwire, guild, arrive } = newPage()
  roomwire.connect()
  await arrive('second-issuer:ada')
  world.socket.receive(subscribed())
  world.socket.receive(snapshot([room('11')]))
  for (let i = 0; i < 2; i++) {
    world.socket.end(1006)
    await world.pass(1_000)
    expect(guild()?.loaded).toBe(true)
    await arrive('second-issuer:ada')
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p1' } })
    world.socket.receive(subscribed({ recovered: true, pos: 'p1' }))
    world.socket.receive(gateway('live'))
    expect(guild()).toMatchObject({ stale: false })
  }
})

test('two persons with the same subject at two issuers are two persons', async () => {
  const { world, roomwire, arrive } = newPage({
    getToken: async () => tokenOf('ada', { iss: `https://${++asked}.example` }),
  })
  let asked = 0
  roomwire.connect()
  await arrive('ada')
  world.socket.receive(subscribed())
  world.socket.receive(snapshot([room('11')]))
  world.socket.end(4401)
  await world.pass(500)
  expect(roomwire.getState().guilds.size).toBe(0)
  expect(world.sockets).toHaveLength(2)
})
