/** A line that comes and goes: nothing is missed, nothing flickers, and nothing old passes for new. */
import { describe, expect, test, vi } from 'vitest'
import { browserEnvironment } from '../src/environment.js'
import { live, start } from './lines.js'
import { event, gateway, guildId, room, snapshot, subscribed, voice, type World, welcome } from './world.js'

const rooms = [room('11', [voice('11', '3')]), room('12')]

/** The hub is back, and welcomes. */
async function back(world: World, waitMs = 500) {
  await world.pass(waitMs)
  world.socket.open()
  world.socket.hear(welcome())
}

describe('recovered', () => {
  test('it goes on with the same objects, and is fresh when the gateway is known to be live', async () => {
    const { world, guild, roomwire } = await live(rooms)
    const before = guild()?.rooms
    const seen: unknown[] = []
    roomwire.listen(() => seen.push(guild()?.rooms))
    world.socket.end(1012)
    expect(guild()).toMatchObject({ stale: true, following: 'away', gateway: null })
    await back(world)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p1' } })
    world.socket.hear(subscribed({ recovered: true, pos: 'p1b' }))
    expect(guild()).toMatchObject({ stale: true, following: 'live', gateway: null })
    world.socket.hear(gateway('live'))
    expect(guild()).toMatchObject({ stale: false, staleSince: null })
    // No flicker: whoever looked at the rooms saw the same ones all the time.
    expect(new Set(seen)).toEqual(new Set([before]))
    world.socket.hear(event('voice.joined', voice('12', '4'), { n: 1, pos: 'p2' }))
    expect(guild()?.rooms[0]).toBe(before?.[0])
    expect(guild()?.rooms[1]?.members.map(member => member.userId)).toEqual(['4'])
  })

  test('it stays stale while the gateway is not live', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.hear(subscribed({ recovered: true }))
    world.socket.hear(gateway('down', 7_000, 'worker_silent'))
    expect(guild()).toMatchObject({ stale: true, staleSince: world.now - 7_000 })
  })

  test('a hole before the first missed frame is seen, and mended from the position before it', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.hear(subscribed({ recovered: true, pos: 'p1' }))
    world.socket.hear(gateway('live'))
    world.socket.hear(event('voice.joined', voice('12', '4'), { n: 2, pos: 'p3' }))
    expect(guild()).toMatchObject({ stale: true, following: 'awaited' })
    expect(world.socket.lastSent('subscribe')).toMatchObject({ recover: 'p1' })
  })

  test('a snapshot in parts that breaks off leaves the position with what is shown', async () => {
    const { world, guild } = await live(rooms)
    world.socket.end(1006)
    await back(world)
    world.socket.hear(subscribed({ pos: 'p8' }))
    world.socket.hear(snapshot([room('21')], { pos: 'p8' }, { part: 1, of: 2 }))
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
    world.socket.hear(welcome({ sub: 'grace' }))
    expect(guild()).toMatchObject({ loaded: false, rooms: [] })
    // The hub may have taken the position; there is nothing here that it would continue.
    world.socket.hear(subscribed({ recovered: true }))
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
    expect(roomwire.getState().guilds.get(guildId)?.stale).toBe(true)
  })
})

describe('missing frames', () => {
  test('are asked for from the last position', async () => {
    const { world, guild } = await live()
    world.socket.hear(event('voice.joined', voice('11', '3'), { n: 2, pos: 'p3' }))
    expect(guild()).toMatchObject({ stale: true, following: 'awaited' })
    expect(guild()?.rooms[0]?.members).toEqual([])
    expect(world.socket.lastSent('subscribe')).toEqual({
      type: 'subscribe',
      guildId,
      recover: 'p1',
      id: 'subscribe:1',
    })
    // Still of the subscription with the hole.
    world.socket.hear(event('voice.joined', voice('11', '4'), { n: 3, pos: 'p4' }))
    world.socket.hear(subscribed({ re: 'subscribe:1', recovered: true, pos: 'p1' }))
    // What was told over the subscription before is not known of this one.
    expect(guild()).toMatchObject({ stale: true, following: 'live', gateway: null })
    world.socket.hear(gateway('live'))
    world.socket.hear(event('voice.joined', voice('11', '2'), { n: 1, pos: 'p2' }))
    expect(guild()?.stale).toBe(false)
    expect(guild()?.rooms[0]?.members.map(member => member.userId)).toEqual(['2'])
  })

  test('that keep missing bring a snapshot, then a new connection with backoff, and no position', async () => {
    const { world, connection } = await live()
    world.socket.hear(event('x', {}, { n: 2 }))
    world.socket.hear(subscribed({ re: 'subscribe:1', recovered: true, pos: 'p1' }))
    world.socket.hear(event('x', {}, { n: 2 }))
    expect(world.socket.lastSent('subscribe')).toEqual({ type: 'subscribe', guildId, id: 'subscribe:2' })
    world.socket.hear(subscribed({ re: 'subscribe:2' }))
    world.socket.hear(snapshot())
    world.socket.hear(event('x', {}, { n: 2 }))
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'frames were missing' } })
    await world.pass(500)
    world.socket.open()
    expect(world.socket.sent[0]).not.toHaveProperty('recover')
  })

  test('at the beginning, where the whole snapshot is lost, are missed too', async () => {
    const { world, connection } = await live()
    world.socket.end(1006)
    await back(world)
    world.socket.hear(subscribed())
    world.socket.hear(event('x', {}, { n: 1, pos: 'p9' }))
    expect(world.socket.lastSent('subscribe')).toMatchObject({ recover: 'p1' })
    expect(connection().state).toBe('open')
  })
})

describe('a hub that is away', () => {
  test('for an hour, over and over, costs one socket and one timer at a time, and nothing that is shown', async () => {
    const { world, guild, roomwire } = await live(rooms)
    const before = guild()
    let told = 0
    const end = roomwire.listen(() => told++)
    world.luck = 0.999
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
    expect(told).toBeLessThan(600)
    await back(world, 15_000)
    world.socket.hear(subscribed({ recovered: true }))
    world.socket.hear(gateway('live'))
    told = 0
    world.socket.hear(event('voice.left', voice('11', '3'), { n: 1, pos: 'p2' }))
    // Handled once, however often it was connected.
    expect(told).toBe(1)
    end()
  })

  test('is asked again within a stated time, spread evenly', async () => {
    const waits: number[] = []
    for (const luck of [0, 0.25, 0.5, 0.75]) {
      const { world, connection } = await live()
      world.luck = luck
      world.socket.end(1006)
      const state = connection()
      if (state.state === 'waiting') waits.push(state.nextAttemptAt - world.now)
    }
    expect(waits).toEqual([0, 125, 250, 375])
  })
})

describe('a machine that sleeps', () => {
  test('leaves the connection at once when it wakes, and what is shown is as old as the last word', async () => {
    const { world, guild, connection } = await live(rooms)
    await world.pass(3_000)
    world.socket.hear(event('x', {}, { n: 1, pos: 'p2' }))
    const heardAt = world.now
    world.sleep(600_000)
    world.wake()
    expect(connection().state).toBe('connecting')
    expect(guild()).toMatchObject({ stale: true, staleSince: heardAt })
    await back(world, 0)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p2' } })
  })

  test('does so too when nothing wakes it but its own late timer', async () => {
    const { world, connection } = await live(rooms)
    world.sleep(600_000)
    await world.pass(0)
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'no sign of life' } })
    expect(world.sockets[0]?.closed).toBe(true)
  })

  test('for as long as a page out of sight is throttled, asks first', async () => {
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
    world.socket.hear(subscribed({ recovered: true, pos: 'p1' }))
    world.socket.hear(gateway('live'))
    expect(guild()?.stale).toBe(false)
    // A connection that holds begins the next backoff anew, whatever the clock says.
    await world.pass(10_000)
    world.luck = 0.999
    world.shift(jump)
    world.socket.end(1006)
    await world.pass(499)
    expect(world.sockets).toHaveLength(3)
  })

  test('back: a quiet hub is still asked for a sign of life', async () => {
    const { world, connection } = await live(rooms)
    world.shift(-86_400_000)
    await world.pass(35_000)
    expect(connection()).toMatchObject({ state: 'waiting', reason: { text: 'no sign of life' } })
  })

  test('back: holes are still mended one after the other', async () => {
    const { world } = await live(rooms)
    world.socket.hear(event('x', {}, { n: 2 }))
    world.shift(-86_400_000)
    world.socket.hear(subscribed({ re: 'subscribe:1', recovered: true }))
    world.socket.hear(event('x', {}, { n: 2 }))
    expect(world.socket.lastSent('subscribe')).not.toHaveProperty('recover')
  })
})

test('a listener that closes the line while it opens leaves no socket behind', async () => {
  const { world, roomwire } = start()
  roomwire.listen(() => roomwire.close())
  roomwire.connect()
  await world.settle()
  expect(world.sockets).toHaveLength(0)
  expect(world.timersLeft).toBe(0)
})

test('the browser wakes and hides a page by its own events, and is let go of', () => {
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
