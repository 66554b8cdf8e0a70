// @vitest-environment happy-dom
import { afterEach, describe, expect, test, vi } from 'vitest'
import { browserEnvironment } from '../src/environment.js'
import { createRoomwire, isHere, meOf, RoomwireProblem, roomOf } from '../src/index.js'
import { event, guildId, room, snapshot, subscribed, tokenOf, voice, World, welcome } from './world.js'

afterEach(() => vi.unstubAllGlobals())

const linkOf = (channelId: string) => `https://discord.com/channels/${guildId}/${channelId}`

async function start(
  sub = 'ada',
  rooms = [room('11', [voice('11', '7')]), room('12')],
  options: object = {},
) {
  const world = new World()
  let person = sub
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => tokenOf(person),
    environment: world.environment,
    ...options,
  })
  const enter = async (next = person) => {
    person = next
    roomwire.connect()
    await world.settle()
    world.socket.open()
    for (const frame of [welcome({ sub: person }), subscribed(), snapshot(rooms)]) world.socket.receive(frame)
  }
  await enter()
  return { world, roomwire, enter }
}

describe('the link of a room', () => {
  test('is the one that the hub sends', async () => {
    const joinUrl = 'https://discord.com/channels/1/2'
    const { world, roomwire } = await start('ada', [room('11', [], { joinUrl })])
    expect(roomOf(roomwire.getState(), '11')?.joinUrl).toBe(joinUrl)
    world.socket.receive(event('room.created', { channelId: '12', joinUrl: `${joinUrl}2` }, { n: 1 }))
    expect(roomOf(roomwire.getState(), '12')?.joinUrl).toBe(`${joinUrl}2`)
  })

  test('is derived if an older hub sends none, in every frame that makes a room known', async () => {
    const { world, roomwire } = await start()
    world.socket.receive(event('room.created', { channelId: '13', name: 'New' }, { n: 1 }))
    world.socket.receive(event('voice.joined', voice('14', '8'), { n: 2 }))
    for (const channelId of ['11', '12', '13', '14'])
      expect(roomOf(roomwire.getState(), channelId)?.joinUrl).toBe(linkOf(channelId))
  })

  test.each(['javascript:alert(1)', 'http://discord.com/', '', 7, null])(
    'is derived if a frame has %j in its place',
    async joinUrl => {
      const { roomwire } = await start('ada', [room('11', [], { joinUrl })])
      expect(roomOf(roomwire.getState(), '11')?.joinUrl).toBe(linkOf('11'))
    },
  )

  test('is in the list of rooms too, of an older hub as well', async () => {
    const { world, roomwire } = await start()
    const joinUrl = 'https://discord.com/channels/1/2'
    const list = { guildId, rooms: [room('11'), room('12', [], { joinUrl })], pos: 'p', gateway: {} }
    world.answer = async () => Response.json(list)
    const { rooms, pos } = await roomwire.listRooms()
    expect(rooms.map(each => each.joinUrl)).toEqual([linkOf('11'), joinUrl])
    expect(pos).toBe('p')
  })

  test('keeps the room the same object while it does not change', async () => {
    const { world, roomwire } = await start()
    const before = roomOf(roomwire.getState(), '12')
    world.socket.receive(snapshot([room('12', [], { joinUrl: linkOf('12') })]))
    expect(roomOf(roomwire.getState(), '12')).toBe(before)
  })
})

describe('joinRoom', () => {
  test('opens the link of a known room and returns it, without a request', async () => {
    const { world, roomwire } = await start()
    expect(roomwire.joinRoom('11')).toBe(linkOf('11'))
    expect(world.opened).toEqual([linkOf('11')])
    expect(world.requests).toEqual([])
  })

  test('throws for a room that is not known, and opens nothing', async () => {
    const { world, roomwire } = await start()
    expect(() => roomwire.joinRoom('99')).toThrow('The room 99 is not known.')
    expect(world.opened).toEqual([])
  })

  test('opens a new tab that cannot reach the page', () => {
    const tab = { opener: window as unknown }
    const open = vi.fn(() => tab)
    const assign = vi.fn()
    vi.stubGlobal('window', { open })
    vi.stubGlobal('location', { assign })
    browserEnvironment.openLink('https://discord.com/channels/1/2')
    expect(open).toHaveBeenCalledExactlyOnceWith('https://discord.com/channels/1/2', '_blank')
    expect(tab.opener).toBeNull()
    expect(assign).not.toHaveBeenCalled()
  })

  test('goes there itself if the browser blocks the tab', () => {
    const assign = vi.fn()
    vi.stubGlobal('window', { open: () => null })
    vi.stubGlobal('location', { assign })
    browserEnvironment.openLink('https://discord.com/channels/1/2')
    expect(assign).toHaveBeenCalledExactlyOnceWith('https://discord.com/channels/1/2')
  })

  test('opens nothing without a page', () => {
    const open = vi.fn()
    vi.stubGlobal('window', { open })
    vi.stubGlobal('document', undefined)
    browserEnvironment.openLink('https://discord.com/channels/1/2')
    expect(open).not.toHaveBeenCalled()
  })
})

describe('createInvite', () => {
  test('sends what is asked for, and returns the invite', async () => {
    const { world, roomwire } = await start()
    const invite = { url: 'https://discord.gg/abc', code: 'abc', expiresAt: 1_700_000_000_000 }
    world.answer = async () => Response.json(invite, { status: 201 })
    expect(await roomwire.createInvite('11', { maxAgeSeconds: 600, maxUses: 1 })).toEqual(invite)
    await roomwire.createInvite('../11')
    expect(world.requests.map(({ url, init }) => [init.method, url, init.body])).toEqual([
      ['POST', 'https://hub.example/api/rooms/11/invites', '{"maxAgeSeconds":600,"maxUses":1}'],
      ['POST', 'https://hub.example/api/rooms/..%2F11/invites', '{}'],
    ])
    expect(world.requests[0]?.init.headers).toMatchObject({
      'content-type': 'application/json',
      authorization: `Bearer ${tokenOf('ada')}`,
    })
  })

  test.each([
    [403, 'FORBIDDEN'],
    [404, 'NOT_FOUND'],
    [502, 'DISCORD_FORBIDDEN'],
    [503, 'UNAVAILABLE'],
  ])('rejects with the problem of the hub, and is not retried: %i %s', async (status, code) => {
    const { world, roomwire } = await start()
    world.answer = async () => Response.json({ code, title: 'No', detail: 'why' }, { status })
    const refused = await roomwire.createInvite('11').catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(RoomwireProblem)
    expect(refused).toMatchObject({ code, status, message: 'why' })
    expect(world.requests).toHaveLength(1)
  })

  test.each([{}, { code: 'abc' }, { url: 'javascript:1', code: 'abc' }, { url: 'https://discord.gg/abc' }])(
    'rejects if %j answers in its place',
    async answer => {
      const { world, roomwire } = await start()
      world.answer = async () => Response.json(answer, { status: 201 })
      await expect(roomwire.createInvite('11')).rejects.toMatchObject({ code: 'NETWORK' })
    },
  )
})

describe('me', () => {
  test('is unknown until the hub has named the subject', async () => {
    const world = new World()
    const getToken = async () => tokenOf('discord:7')
    const roomwire = createRoomwire({ url: 'https://hub.example', getToken, environment: world.environment })
    roomwire.connect()
    await world.settle()
    world.socket.open()
    expect(meOf(roomwire.getState())).toBeNull()
    world.socket.receive(welcome({ sub: 'discord:7' }))
    expect(meOf(roomwire.getState())).toEqual({ sub: 'discord:7', userId: '7' })
  })

  test('is the subject of auth.ok, also if the token has another one', async () => {
    const { world, roomwire } = await start('ada')
    world.socket.receive(welcome({ sub: 'ada' }))
    world.socket.end(1006)
    await world.pass(1_000)
    world.socket.open()
    world.socket.receive(welcome({ sub: 'discord:7' }))
    expect(meOf(roomwire.getState())).toEqual({ sub: 'discord:7', userId: '7' })
  })

  test.each(['ada', 'discord:', 'discord:0', 'discord:7x', 'discord:07', 'DISCORD:7', 'partner:discord:7'])(
    'is no Discord user with the subject %j',
    async sub => {
      const { roomwire } = await start(sub)
      expect(meOf(roomwire.getState())).toEqual({ sub, userId: null })
    },
  )

  test('is in the rooms in which this Discord user is', async () => {
    const { world, roomwire } = await start('discord:7')
    const mine = () => {
      const state = roomwire.getState()
      return ['11', '12'].filter(channelId => {
        const found = roomOf(state, channelId)
        return found && isHere(found, meOf(state))
      })
    }
    expect(mine()).toEqual(['11'])
    world.socket.receive(event('voice.joined', voice('12', '7'), { n: 1 }))
    expect(mine()).toEqual(['12'])
    world.socket.receive(event('voice.left', voice('12', '7'), { n: 2 }))
    expect(mine()).toEqual([])
  })

  test('is in no room if the token names no Discord user, not even by an equal text', async () => {
    const { roomwire } = await start('7')
    const state = roomwire.getState()
    const eleven = roomOf(state, '11')
    expect(eleven && isHere(eleven, meOf(state))).toBe(false)
    expect(eleven && isHere(eleven, null)).toBe(false)
  })

  test('stays over a lost connection and over signing out, and goes with the next person', async () => {
    const { world, roomwire, enter } = await start('discord:7')
    const me = meOf(roomwire.getState())
    world.socket.end(1006)
    expect(meOf(roomwire.getState())).toBe(me)
    roomwire.close()
    expect(meOf(roomwire.getState())).toBe(me)
    roomwire.connect()
    expect(meOf(roomwire.getState())).toBeNull()
    roomwire.close()
    await enter('grace')
    expect(meOf(roomwire.getState())).toEqual({ sub: 'grace', userId: null })
  })

  test('never stands beside the rooms of another person', async () => {
    const { world, roomwire, enter } = await start('discord:7')
    const seen: string[] = []
    roomwire.onChange(() => {
      const state = roomwire.getState()
      const people = [...state.guilds.values()].flatMap(guild => guild.rooms).length
      seen.push(`${state.me?.sub ?? '-'} ${people}`)
    })
    world.socket.end(1006)
    roomwire.close()
    await enter('grace')
    expect(seen.at(-1)).toBe('grace 2')
    // The first person's rooms are seen until they are dropped, and Grace's only after her name.
    const firstOfGrace = seen.findIndex(each => each.startsWith('grace'))
    expect(seen[firstOfGrace]).toBe('grace 0')
    expect(seen.slice(0, firstOfGrace).every(each => /^(discord:7 2|- 2|- 0)$/.test(each))).toBe(true)
  })

  test('is shown with the stored rooms over a reload, before the hub answers', async () => {
    const kept = new Map<string, string>()
    const persist = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, text: string) => void kept.set(key, text),
      removeItem: (key: string) => void kept.delete(key),
    }
    const joinUrl = 'https://discord.com/channels/1/2'
    const rooms = [room('11', [voice('11', '7')], { joinUrl })]
    const { world } = await start('discord:7', rooms, { persist })
    world.hide()
    const reloaded = new World()
    reloaded.now = world.now + 1_000
    const getToken = async () => tokenOf('discord:7')
    const environment = reloaded.environment
    const roomwire = createRoomwire({ url: 'https://hub.example', getToken, environment, persist })
    roomwire.connect()
    await reloaded.settle()
    const state = roomwire.getState()
    expect(meOf(state)).toEqual({ sub: 'discord:7', userId: '7' })
    expect(roomOf(state, '11')).toMatchObject({ joinUrl })
  })
})
