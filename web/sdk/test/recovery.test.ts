/** Lost connections: nothing is missed, nothing flickers, and nothing old is shown as new. */
import { describe, expect, test, vi } from 'vitest'
import { browserEnvironment } from '../src/environment.js'
import { live, start } from './connections.js'
import { event, gateway, guildId, room, snapshot, subscribed, voice, type World, welcome } from './world.js'

const rooms = [room('11', [voice('11', '3')]), room('12')]

/** The hub is back, and welcomes. */
async function back(world: World, waitMs = 500) {
  await world.pass(waitMs)
  world.socket.open()
  world.socket.receive(welcome())
}

describe('recovered', () => {
  test('it continues with the same objects, and is fresh when the gateway is live', async () => {
    const { world, guild, roomwire } = await live(rooms)
    const before = guild()?.rooms
    const seen: unknown[] = []
    roomwire.onChange(() => seen.push(guild()?.rooms))
    world.socket.end(1012)
    expect(guild()).toMatchObject({ stale: true, following: 'disconnected', gateway: null })
    await back(world)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p1' } })
    world.socket.receive(subscribed({ recovered: true, pos: 'p1b' }))
    expect(guild()).toMatchObject({ stale: true, following: 'live', gateway: null })
    world.socket.receive(gateway('live'))
    expect(guild()).toMatchObject({ stale: false, staleSince: null })
    // No flicker: the rooms are the same objects all the time.
    expect(new Set(seen)).toEqual(new Set([before]))
    world.socket.receive(event('voice.joined', voice('12', '4'), { n: 1, pos: 'p2' }))
    expect(guild()?.rooms[0]).toBe(before?.[0])
    expect(guild()?.rooms[1]?.members.map(member => member.userId)).toEqual(['4'])
  })

  test('it stays stale while the gateway is not live', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.receive(subscribed({ recovered: true }))
    world.socket.receive(gateway('down', 7_000, 'worker_silent'))
    expect(guild()).toMatchObject({ stale: true, staleSince: world.now - 7_000 })
  })

  test('a gap before the first missed frame is seen, and repaired from the position before it', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.receive(subscribed({ recovered: true, pos: 'p1' }))
    world.socket.receive(gateway('live'))
    world.socket.receive(event('voice.joined', voice('12', '4'), { n: 2, pos: 'p3' }))
    expect(guild()).toMatchObject({ stale: true, following: 'awaited' })
    expect(world.socket.lastSent('subscribe')).toMatchObject({ recover: 'p1' })
  })

  test('a snapshot in parts that breaks off leaves the position with what is shown', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.receive(subscribed({ pos: 'p8' }))
    world.socket.receive(snapshot([room('21')], { pos: 'p8' }, { part: 1, of: 2 }))
    expect(guild()?.rooms.map(each => each.channelId)).toEqual(['11', '12'])
    world.socket.end(1006)
    await back(world, 1_000)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p1' } })
  })

  test('what another subject saw is neither shown nor continued from', async () => {
    const { world, roomwire, guild } = await live(rooms)
    world.socket.end(4401)
    await world.pass(500)
    world.socket.open()
    world.socket.receive(welcome({ sub: 'grace' }))
    expect(guild()).toMatchObject({ loaded: false, rooms: [] })
    // The hub may have taken the position; there is nothing here that it would continue.
    world.socket.receive(subscribed({ recovered: true }))
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
    expect(roomwire.getState().guilds.get(guildId)?.stale).toBe(true)
  })
})

describe('missing frames', () => {
  test('are asked for from the last position', async () => {
    const { world, guild } = await live()
    world.socket.receive(event('voice.joined', voice('11', '3'), { n: 2, pos: 'p3' }))
    expect(guild()).toMatchObject({ stale: true, following: 'awaited' })
    expect(guild()?.rooms[0]?.members).toEqual([])
    expect(world.socket.lastSent('subscribe')).toEqual({
      type: 'subscribe',
      guildId,
      recover: 'p1',
      id: 'subscribe:1',
    })
    // Still of the subscription with the gap.
    world.socket.receive(event('voice.joined', voice('11', '4'), { n: 3, pos: 'p4' }))
    world.socket.receive(subscribed({ re: 'subscribe:1', recovered: true, pos: 'p1' }))
    // The earlier subscription's state of the gateway does not apply to this one.
    expect(guild()).toMatchObject({ stale: true, following: 'live', gateway: null })
    world.socket.receive(gateway('live'))
    world.socket.receive(event('voice.joined', voice('11', '2'), { n: 1, pos: 'p2' }))
    expect(guild()?.stale).toBe(false)
    expect(guild()?.rooms[0]?.members.map(member => member.userId)).toEqual(['2'])
  })

  test('that keep missing bring a snapshot, then a new connection with backoff, and no position', async () => {
    const { world, connection } = await live()
    world.socket.receive(event('x', {}, { n: 2 }))
    world.socket.receive(subscribed({ re: 'subscribe:1', recovered: true, pos: 'p1' }))
    world.socket.receive(event('x', {}, { n: 2 }))
    expect(world.socket.lastSent('subscribe')).toEqual({ type: 'subscribe', guildId, id: 'subscribe:2' })
    world.socket.receive(subscribed({ re: 'subscribe:2' }))
    world.socket.receive(snapshot())
    world.socket.receive(event('x', {}, { n: 2 }))
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'frames were missing' } })
    await world.pass(500)
    world.socket.open()
    expect(world.socket.sent[0]).not.toHaveProperty('recover')
  })

  test('at the beginning, where the whole snapshot is lost, are missed too', async () => {
    const { world, connection } = await live()
    world.socket.end(1006)
    await back(world)
    world.socket.receive(subscribed())
    world.socket.receive(event('x', {}, { n: 1, pos: 'p9' }))
    expect(world.socket.lastSent('subscribe')).toMatchObject({ recover: 'p1' })
    expect(connection().state).toBe('open')
  })
})

describe('an unreachable hub', () => {
  test('for an hour, costs one socket and one timer at a time, and no rooms', async () => {
    const { world, guild, roomwire } = await live(rooms)
    const before = guild()
    let calls = 0
    const end = roomwire.onChange(() => calls++)
    world.random = 0.999
    world.socket.end(1006)
    const until = world.now + 3_600_000
    while (world.now < until) {
      await world.pass(15_000)
      expect(world.sockets.filter(socket => !socket.closed).length).toBeLessThanOrEqual(1)
      expect(world.timersLeft).toBeLessThanOrEqual(1)
      expect(world.wakersLeft).toBe(1)
      if (!world.socket.closed) world.socket.end(1006)
    }
    expect(guild()?.rooms).toBe(before?.rooms)
    expect(guild()).toMatchObject({ stale: true, staleSince: 1_000_000 })
    // Backoff: about every fifteen seconds, and two states each.
    expect(calls).toBeLessThan(600)
    await back(world, 15_000)
    world.socket.receive(subscribed({ recovered: true }))
    world.socket.receive(gateway('live'))
    calls = 0
    world.socket.receive(event('voice.left', voice('11', '3'), { n: 1, pos: 'p2' }))
    // Handled once, however often it was connected.
    expect(calls).toBe(1)
    end()
  })

  test('is tried again within a stated time, spread evenly', async () => {
    const waits: number[] = []
    for (const random of [0, 0.25, 0.5, 0.75]) {
      const { world, connection } = await live()
      world.random = random
      world.socket.end(1006)
      const state = connection()
      if (state.state === 'waiting') waits.push(state.nextAttemptAt - world.now)
    }
    expect(waits).toEqual([0, 125, 250, 375])
  })
})

describe('a machine that sleeps', () => {
  test('ends the connection at once when it wakes, and the rooms are stale since the last frame', async () => {
    const { world, guild, connection } = await live(rooms)
    await world.pass(3_000)
    world.socket.receive(event('x', {}, { n: 1, pos: 'p2' }))
    const receivedAt = world.now
    world.sleep(600_000)
    world.wake()
    expect(connection().state).toBe('connecting')
    expect(guild()).toMatchObject({ stale: true, staleSince: receivedAt })
    await back(world, 0)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p2' } })
  })

  test('does so too when nothing wakes it but its own late timer', async () => {
    const { world, connection } = await live(rooms)
    world.sleep(600_000)
    await world.pass(0)
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'no answer to a ping' } })
    expect(world.sockets[0]?.closed).toBe(true)
  })

  test('for as long as a hidden page is throttled, sends a ping first', async () => {
    const { world, connection } = await live(rooms)
    world.sleep(84_000)
    world.wake()
    expect(connection().state).toBe('open')
    expect(world.socket.lastSent('ping')).toBeDefined()
  })
})

describe('a clock that is set', () => {
  test.each([
    ['forward', 86_400_000],
    ['back', -86_400_000],
  ])('%s: it comes back in the same time, and nothing is dated into the future', async (_, jump) => {
    const { world, guild } = await live(rooms)
    world.shift(jump)
    world.socket.end(1006)
    expect(guild()?.staleSince).toBeLessThanOrEqual(world.now)
    await back(world)
    world.socket.receive(subscribed({ recovered: true, pos: 'p1' }))
    world.socket.receive(gateway('live'))
    expect(guild()?.stale).toBe(false)
    // A connection that stays open resets the backoff, whatever the clock shows.
    await world.pass(10_000)
    world.random = 0.999
    world.shift(jump)
    world.socket.end(1006)
    await world.pass(499)
    expect(world.sockets).toHaveLength(3)
  })

  test('back: a silent connection still gets a ping', async () => {
    const { world, connection } = await live(rooms)
    world.shift(-86_400_000)
    await world.pass(35_000)
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'no answer to a ping' } })
  })

  test('back: gaps are still repaired one after the other', async () => {
    const { world } = await live(rooms)
    world.socket.receive(event('x', {}, { n: 2 }))
    world.shift(-86_400_000)
    world.socket.receive(subscribed({ re: 'subscribe:1', recovered: true }))
    world.socket.receive(event('x', {}, { n: 2 }))
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
  })
})

test('a listener that closes the connection while it opens leaves no socket behind', async () => {
  const { world, roomwire } = start()
  roomwire.onChange(() => roomwire.close())
  roomwire.connect()
  await world.settle()
  expect(world.sockets).toHaveLength(0)
  expect(world.timersLeft).toBe(0)
})

test('the browser wakes and hides a page by its events, until the listeners are removed', () => {
  const page = new EventTarget()
  const doc = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  vi.stubGlobal('window', page)
  vi.stubGlobal('document', doc)
  let [woken, hidden] = [0, 0]
  const ends = [browserEnvironment.onWake(() => woken++), browserEnvironment.onHide(() => hidden++)]
  const happen = () => {
    for (const name of ['online', 'pageshow', 'pagehide']) page.dispatchEvent(new Event(name))
    for (const name of ['resume', 'visibilitychange']) doc.dispatchEvent(new Event(name))
  }
  happen()
  expect([woken, hidden]).toEqual([4, 1])
  for (const end of ends) end()
  happen()
  expect([woken, hidden]).toEqual([4, 1])
  vi.unstubAllGlobals()
})
