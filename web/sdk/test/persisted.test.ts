/** What survives a reload, and what does not. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { RoomwireOptions } from '../src/index.js'
import {
  persistedCharsMax,
  persistedGuildCharsMax,
  persistedMsMax,
  persistedPlace,
  readPersisted,
  writePersisted,
} from '../src/persisted.js'
import { identityOf } from '../src/token.js'
import { start } from './connections.js'
import {
  event,
  gateway,
  guildId,
  room,
  snapshot,
  subscribed,
  tokenOf,
  voice,
  World,
  welcome,
} from './world.js'

class Shelf {
  readonly items = new Map<string, string>()
  getItem(key: string) {
    return this.items.get(key) ?? null
  }
  setItem(key: string, value: string) {
    this.items.set(key, value)
  }
  removeItem(key: string) {
    this.items.delete(key)
  }
}

/** A page in a tab: it connects, and its first frame is said. */
async function load(shelf: Shelf, world: World, options: Partial<RoomwireOptions> = {}) {
  const page = start({
    environment: world.environment,
    getToken: async () => tokenOf('ada'),
    persist: shelf,
    ...options,
  })
  page.roomwire.connect()
  await world.settle()
  world.socket.open()
  return page
}

/** A tab whose page showed one guild, and is gone for a reload. */
async function reloaded(options: Partial<RoomwireOptions> = {}) {
  const shelf = new Shelf()
  const world = new World()
  await load(shelf, world, options)
  world.socket.receive(welcome())
  world.socket.receive(subscribed())
  world.socket.receive(snapshot([room('11', [voice('11', '7', { selfMute: true })], { parentId: '5' })]))
  world.socket.receive(event('voice.joined', voice('11', '8'), { n: 1, pos: 'p2' }))
  world.hide()
  return { shelf, world: Object.assign(new World(), { now: world.now + 1_000 }) }
}

const shown = (page: { guild: () => { rooms: readonly { channelId: string }[] } | undefined }) =>
  page.guild()?.rooms.map(each => each.channelId)

describe('over a reload', () => {
  test('a page shows what it showed, as stale and as of then, and continues from there', async () => {
    const { shelf, world } = await reloaded()
    const page = await load(shelf, world)
    expect(world.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p2' } })
    expect(page.guild()).toMatchObject({
      loaded: true,
      stale: true,
      following: 'disconnected',
      staleSince: 1_000_000,
      gateway: null,
      rooms: [
        {
          channelId: '11',
          name: 'Room 11',
          parentId: '5',
          userLimit: 4,
          members: [
            { userId: '7', displayName: 'User 7', avatarUrl: 'https://cdn.example/7.png', selfMute: true },
            { userId: '8' },
          ],
        },
      ],
    })
    world.socket.receive(welcome())
    expect(page.guild()?.stale).toBe(true)
    world.socket.receive(subscribed({ recovered: true }))
    expect(page.guild()?.stale).toBe(true)
    world.socket.receive(gateway('live'))
    expect(page.guild()).toMatchObject({ stale: false, staleSince: null })
    world.socket.receive(event('voice.left', voice('11', '7'), { n: 1, pos: 'p3' }))
    expect(page.guild()?.rooms[0]?.members.map(member => member.userId)).toEqual(['8'])
  })

  test('what was stale before is as old as it was', async () => {
    const { shelf, world } = await reloaded()
    await load(shelf, world)
    world.hide()
    const later = Object.assign(new World(), { now: world.now + 5_000 })
    expect((await load(shelf, later)).guild()).toMatchObject({ stale: true, staleSince: 1_000_000 })
  })

  test('what was read once is not there a second time', async () => {
    const { shelf, world } = await reloaded()
    await load(shelf, world)
    expect(shelf.items.size).toBe(0)
  })

  test('a guild asked for later, by the same choice of rooms, continues too', async () => {
    const { shelf, world } = await reloaded({ rooms: ['11'] })
    const page = start({
      environment: world.environment,
      getToken: async () => tokenOf('ada'),
      persist: shelf,
    })
    page.roomwire.subscribe(guildId, ['11'])
    page.roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome())
    expect(world.socket.lastSent('subscribe')).toMatchObject({ rooms: ['11'], recover: 'p2' })
  })

  test.each<[string, Partial<RoomwireOptions>]>([
    ['another subject', { getToken: async () => tokenOf('grace') }],
    ['a token that does not say whose it is', { getToken: async () => 'opaque' }],
    ['another hub', { url: 'https://other.example' }],
    ['another choice of rooms', { rooms: ['12'] }],
    ['other guilds', { guilds: ['2'] }],
    ['a page that does not ask for it', { persist: undefined } as object],
  ])('%s sees nothing of it', async (_, options) => {
    const { shelf, world } = await reloaded()
    const page = await load(shelf, world, options)
    expect(world.socket.sent[0]).not.toHaveProperty('recover')
    expect(page.roomwire.getState().guilds.size).toBe(0)
  })

  test('what another subject left is gone after that', async () => {
    const { shelf, world } = await reloaded()
    await load(shelf, world, { getToken: async () => tokenOf('grace') })
    expect(shelf.items.size).toBe(0)
  })

  test('a hub that names another subject than the token did ends it', async () => {
    const { shelf, world } = await reloaded()
    const page = await load(shelf, world)
    expect(shown(page)).toEqual(['11'])
    world.socket.receive(welcome({ sub: 'grace' }))
    expect(page.guild()).toMatchObject({ loaded: false, rooms: [] })
  })

  test('a guild that the token does not reach any more is forgotten', async () => {
    const { shelf, world } = await reloaded()
    const page = await load(shelf, world)
    world.socket.receive(welcome({ guilds: ['2'], guildId: '2' }))
    expect([...page.roomwire.getState().guilds.keys()]).toEqual(['2'])
    world.hide()
    const left = readPersisted(shelf.getItem('roomwire.kept https://hub.example'), { sub: 'ada' }, world.now)
    expect(left?.guilds).toEqual([])
  })

  test('a guild that is refused is not kept', async () => {
    const { shelf, world } = await reloaded()
    await load(shelf, world)
    world.socket.receive(welcome())
    world.socket.receive({ v: 1, type: 'ack', event: 'unsubscribed', guildId, ts: 0 })
    world.hide()
    expect([...shelf.items.values()].join()).not.toContain('User 7')
  })

  test('a page that the hub sent away keeps nothing', async () => {
    const { shelf, world } = await reloaded()
    const page = await load(shelf, world)
    expect(shown(page)).toEqual(['11'])
    world.socket.end(4403)
    expect(page.guild()).toMatchObject({ following: 'refused', loaded: false, rooms: [] })
    world.hide()
    expect(shelf.items.size).toBe(0)
  })

  test('a snapshot that was not whole is not kept, and neither is its position', async () => {
    const { shelf, world } = await reloaded()
    await load(shelf, world)
    world.socket.receive(welcome())
    world.socket.receive(subscribed({ pos: 'p9' }))
    world.socket.receive(snapshot([room('21')], { pos: 'p9' }, { part: 1, of: 2 }))
    world.hide()
    const later = Object.assign(new World(), { now: world.now })
    const page = await load(shelf, later)
    expect(shown(page)).toEqual(['11'])
    expect(later.socket.sent[0]).toMatchObject({ recover: { [guildId]: 'p2' } })
  })

  test('closing forgets it, and a page that begins twice does not', async () => {
    const { shelf, world } = await reloaded()
    const page = start({
      environment: world.environment,
      getToken: async () => tokenOf('ada'),
      persist: shelf,
    })
    // As React does under StrictMode.
    page.roomwire.connect()
    page.roomwire.close()
    page.roomwire.connect()
    await world.settle()
    world.socket.open()
    expect(shown(page)).toEqual(['11'])
    world.hide()
    expect(shelf.items.size).toBe(1)
    page.roomwire.close()
    expect(shelf.items.size).toBe(0)
    world.hide()
    expect(shelf.items.size).toBe(0)
  })
})

describe('signing out before the hub has answered empties the place', () => {
  const tab = async (getToken: () => Promise<string>) => {
    const { shelf, world } = await reloaded()
    expect(shelf.items.size).toBe(1)
    return { shelf, ...start({ environment: world.environment, persist: shelf, getToken }), world }
  }

  test('where the session has ended, so that getToken rejects', async () => {
    const { shelf, world, roomwire } = await tab(() => Promise.reject(new Error('no session')))
    roomwire.connect()
    await world.settle()
    roomwire.close()
    expect(shelf.items.size).toBe(0)
  })

  test('where getToken gives a token that is no JWT', async () => {
    const { shelf, world, roomwire } = await tab(async () => 'opaque')
    roomwire.connect()
    await world.settle()
    expect(shelf.items.size).toBe(1)
    roomwire.close()
    expect(shelf.items.size).toBe(0)
  })

  test('where getToken gives no token', async () => {
    const { shelf, world, roomwire } = await tab(async () => '<!doctype html>')
    roomwire.connect()
    await world.settle()
    roomwire.close()
    expect(shelf.items.size).toBe(0)
  })

  test('where getToken has not answered yet', async () => {
    const { shelf, world, roomwire } = await tab(() => new Promise(() => {}))
    roomwire.connect()
    await world.settle()
    roomwire.close()
    expect(shelf.items.size).toBe(0)
  })

  test('where the page never connected', async () => {
    const { shelf, roomwire } = await tab(async () => tokenOf('ada'))
    roomwire.close()
    expect(shelf.items.size).toBe(0)
  })

  test('where the page closes at once, and does not connect again', async () => {
    const { shelf, world, roomwire } = await tab(async () => tokenOf('ada'))
    roomwire.connect()
    roomwire.close()
    await world.settle()
    expect(shelf.items.size).toBe(0)
  })

  test('where the hub sends the page away', async () => {
    const { shelf, world, roomwire } = await tab(async () => 'opaque')
    roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.end(4403)
    expect(shelf.items.size).toBe(0)
  })
})

test('a page that is hidden and shown again keeps nothing once another person is signed in', async () => {
  const { shelf, world } = await reloaded()
  let person = 'ada'
  const { roomwire } = await load(shelf, world, { getToken: async () => tokenOf(person) })
  world.socket.receive(welcome())
  world.hide()
  expect(shelf.items.size).toBe(1)
  person = 'grace'
  world.socket.end(1006)
  world.now += 3_600_000
  await roomwire.endRoom('5').catch(() => {})
  expect(shelf.items.size).toBe(0)
})

describe('the text', () => {
  const now = 100_000_000
  const kept = { guildId: '1', pos: 'p', asOf: now, choice: null, rooms: [] }
  const ada = { sub: 'ada', identity: '["https://issuer.example","ada"]' }
  const grace = { sub: 'grace', identity: '["https://issuer.example","grace"]' }
  const text = writePersisted(ada, [kept], now)
  const guildsOf = (text: string, at = now) => readPersisted(text, { sub: 'ada' }, at)?.guilds

  test('is read back', () => {
    expect(guildsOf(text, now + persistedMsMax)).toEqual([kept])
    expect(readPersisted(text, { identity: ada.identity }, now)).toEqual({ sub: 'ada', guilds: [kept] })
    expect(readPersisted(text, { identity: grace.identity }, now)).toBeNull()
  })

  test('holds no guild that was last known to be so too long ago', () => {
    const old = { ...kept, guildId: '2', asOf: now - persistedMsMax - 1 }
    expect(guildsOf(writePersisted(ada, [old, kept], now))).toEqual([kept])
  })

  test.each([
    ['nothing', null],
    ['no JSON', text.slice(1)],
    ['another version', text.replace('"v":2', '"v":3')],
    ['another subject', writePersisted(grace, [kept], now)],
    ['too old', writePersisted(ada, [kept], now - persistedMsMax - 1)],
    ['of the future', writePersisted(ada, [kept], now + 1)],
    ['of no time', text.replace('"at":100000000', '"at":null')],
    ['a guild without a position', text.replace('"pos":"p"', '"pos":""')],
    ['a guild without rooms', text.replace('"rooms":[]', '"rooms":{}')],
    ['a room that is none', text.replace('"rooms":[]', '"rooms":[{"name":"x"}]')],
    ['an odd choice of rooms', text.replace('"choice":null', '"choice":[1]')],
    ['an odd time', text.replace('"asOf":100000000', '"asOf":"5"')],
    ['too long', text.replace('"pos":"p"', `"pos":"${'p'.repeat(2 * persistedCharsMax)}"`)],
  ])('is nothing if it is %s', (_, odd) => {
    expect(readPersisted(odd, { sub: 'ada' }, now)).toBeNull()
    expect(readPersisted(odd, { identity: ada.identity }, now)).toBeNull()
  })

  test('holds no guild that is too large, and no more guilds than there is place for', () => {
    const large = (chars: number, guildId: string) => ({ ...kept, guildId, pos: 'p'.repeat(chars) })
    const one = persistedGuildCharsMax - 200
    const guilds = [
      large(persistedGuildCharsMax, 'too large'),
      ...Array.from({ length: 9 }, (_, n) => large(one, `${n}`)),
      large(1, 'small'),
    ]
    const whole = writePersisted(ada, guilds, now)
    expect(whole.length).toBeLessThan(persistedCharsMax + 1_000)
    expect(guildsOf(whole)?.map(guild => guild.guildId)).toEqual(['0', '1', '2', '3', 'small'])
  })

  test('however odd breaks nothing', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (guilds, rooms) => {
        for (const odd of [
          guilds,
          [guilds],
          [{ ...kept, rooms }],
          [{ ...kept, rooms: [{ members: rooms }] }],
        ]) {
          const read = guildsOf(JSON.stringify({ v: 2, sub: 'ada', at: now, guilds: odd }))
          for (const guild of read ?? []) expect(typeof guild.pos).toBe('string')
        }
      }),
    )
  })

  test('has no place where storage is forbidden or full', () => {
    const refuse = () => {
      throw new DOMException('no', 'SecurityError')
    }
    const place = persistedPlace({ getItem: refuse, setItem: refuse, removeItem: refuse }, 'h')
    expect(place.take()).toBeNull()
    expect(() => place.put('x')).not.toThrow()
    expect(() => place.clear()).not.toThrow()
  })
})

test.each([
  [tokenOf('zoë'), '[null,"zoë"]'],
  [tokenOf('ada', { iss: 'https://a.example' }), '["https://a.example","ada"]'],
  [tokenOf(''), undefined],
  ['x', undefined],
  ['a.b.c', undefined],
  [`a.${Buffer.from('null').toString('base64url')}.c`, undefined],
  [`a.${Buffer.from('{"sub":7}').toString('base64url')}.c`, undefined],
])('the token %s says that it is for %s', (token, identity) => {
  expect(identityOf(token)).toBe(identity)
})
