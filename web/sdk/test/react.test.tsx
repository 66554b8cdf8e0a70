// @vitest-environment happy-dom
import { act, type ReactNode, StrictMode } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createRoomwire, isHere } from '../src/index.js'
import {
  JoinLink,
  RoomwireProvider,
  useConnection,
  useGuild,
  useMe,
  useRoom,
  useRoomActions,
  useRooms,
} from '../src/react/index.js'
import { event, guildId, room, snapshot, subscribed, tokenOf, voice, World, welcome } from './world.js'

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean
}

let root: Root
let page: HTMLElement

beforeEach(() => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true
  page = document.createElement('div')
  root = createRoot(page)
})

afterEach(() => act(() => root.unmount()))

async function render(children: ReactNode) {
  const world = new World()
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => 't',
    environment: world.environment,
  })
  await act(async () => {
    root.render(
      <StrictMode>
        <RoomwireProvider roomwire={roomwire}>{children}</RoomwireProvider>
      </StrictMode>,
    )
  })
  await act(() => world.settle())
  const receive = (...frames: object[]) =>
    act(async () => {
      for (const frame of frames) world.socket.receive(frame)
    })
  await act(async () => world.socket.open())
  return { world, roomwire, receive }
}

const rooms = [room('11', [voice('11', '7')]), room('12')]

test('rooms and members are shown, live', async () => {
  function Rooms() {
    return useRooms().map(each => (
      <p key={each.channelId}>
        {each.name}: {each.members.map(member => member.displayName).join(', ')}
      </p>
    ))
  }
  const { receive } = await render(<Rooms />)
  await receive(welcome(), subscribed(), snapshot(rooms))
  expect(page.textContent).toBe('Room 11: User 7Room 12: ')
  await receive(event('voice.joined', voice('12', '8'), { n: 1 }))
  expect(page.textContent).toBe('Room 11: User 7Room 12: User 8')
})

test('the provider connects once, also under StrictMode, and closes when it leaves', async () => {
  const { world, roomwire } = await render(null)
  expect(world.sockets).toHaveLength(1)
  await act(async () => root.render(null))
  expect(roomwire.getState().connection.state).toBe('closed')
  expect(world.socket.closed).toBe(true)
  expect(world.timersLeft).toBe(0)
})

test('StrictMode keeps what is stored for a reload, and unmounting before the first token deletes it', async () => {
  const kept = new Map<string, string>()
  const persist = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, text: string) => void kept.set(key, text),
    removeItem: (key: string) => void kept.delete(key),
  }
  const options = { url: 'https://hub.example', persist }
  const mount = async (getToken: () => Promise<string>) => {
    const world = new World()
    const roomwire = createRoomwire({ ...options, getToken, environment: world.environment })
    await act(async () => {
      root.render(
        <StrictMode>
          <RoomwireProvider roomwire={roomwire}>{null}</RoomwireProvider>
        </StrictMode>,
      )
    })
    return { world, roomwire }
  }
  const { world } = await mount(async () => tokenOf('ada'))
  await act(() => world.settle())
  world.socket.open()
  for (const frame of [welcome(), subscribed(), snapshot(rooms)]) world.socket.receive(frame)
  world.hide()
  const text = [...kept]
  expect(text).toHaveLength(1)
  await act(async () => root.render(null))
  expect(kept.size).toBe(0)

  for (const [key, value] of text) kept.set(key, value)
  const reloaded = await mount(() => new Promise(() => {}))
  expect(kept.size).toBe(1)
  await act(async () => root.render(null))
  expect(reloaded.roomwire.getState().connection.state).toBe('closed')
  expect(kept.size).toBe(0)
})

test('a provider that unmounts and mounts again, in StrictMode too, is the page of the person who is signed in then', async () => {
  const world = new World()
  let person = 'ada'
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => tokenOf(person),
    environment: world.environment,
  })
  const shown: string[] = []
  function Rooms() {
    const text = useRooms()
      .map(each => each.members.map(member => member.displayName))
      .join()
    shown.push(text)
    return text
  }
  const mount = async () => {
    await act(async () =>
      root.render(
        <StrictMode>
          <RoomwireProvider roomwire={roomwire}>
            <Rooms />
          </RoomwireProvider>
        </StrictMode>,
      ),
    )
    await act(() => world.settle())
    await act(async () => world.socket.open())
  }
  const receive = (...frames: object[]) =>
    act(async () => {
      for (const frame of frames) world.socket.receive(frame)
    })
  await mount()
  await receive(welcome(), subscribed(), snapshot(rooms))
  expect(page.textContent).toBe('User 7,')

  await act(async () => root.render(null))
  expect(world.socket.closed).toBe(true)
  // A component that still holds the connection sees what was known, as stale.
  expect(roomwire.getState().guilds.get(guildId)).toMatchObject({ loaded: true, stale: true })
  person = 'grace'
  shown.length = 0
  await mount()
  expect(world.sockets).toHaveLength(2)
  expect(world.socket.sent).toEqual([{ type: 'auth', token: tokenOf('grace') }])
  await receive(welcome({ sub: 'grace' }), subscribed(), snapshot([room('12', [voice('12', '9')])]))
  expect(page.textContent).toBe('User 9')
  // The very first render is before the effect that connects; every later one is Grace's.
  expect(shown.slice(shown.indexOf(''))).not.toContain('User 7,')

  world.answer = async () => new Response('{"ok":true}')
  await roomwire.endRoom('12')
  expect(world.requests[0]?.init.headers).toMatchObject({ authorization: `Bearer ${tokenOf('grace')}` })
})

test('a room is rendered again only when it changes', async () => {
  let renders = 0
  function One() {
    renders++
    return <p>{useRoom('11')?.members.length}</p>
  }
  const { receive } = await render(<One />)
  await receive(welcome(), subscribed(), snapshot(rooms))
  const before = renders
  await receive(event('voice.joined', voice('12', '8'), { n: 1 }))
  expect(renders).toBe(before)
  await receive(event('voice.joined', voice('11', '9'), { n: 2 }))
  expect(renders).toBeGreaterThan(before)
  expect(page.textContent).toBe('2')
})

test('connection and guild show whether the rooms are fresh', async () => {
  function State() {
    const guild = useGuild()
    return `${useConnection().state} ${guild?.gateway?.state ?? '-'} ${guild?.stale ?? '-'}`
  }
  const { world, receive } = await render(<State />)
  expect(page.textContent).toBe('connecting - -')
  await receive(welcome(), subscribed(), snapshot(rooms))
  expect(page.textContent).toBe('open live false')
  await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
  expect(page.textContent).toBe('open down true')
  await act(async () => world.socket.end(1006))
  // What the hub said of Discord ended with the connection.
  expect(page.textContent).toBe('waiting - true')
})

test('rooms of all guilds are one list', async () => {
  function Rooms() {
    return useRooms()
      .map(each => each.channelId)
      .join(' ')
  }
  const { receive } = await render(<Rooms />)
  await receive(welcome({ guilds: [guildId, '2'] }), subscribed(), snapshot(rooms))
  await receive(subscribed({ guildId: '2' }), snapshot([room('21')], { guildId: '2' }))
  expect(page.textContent).toBe('11 12 21')
})

test('a JoinLink opens the room in Discord, in a new tab', async () => {
  const Rooms = () => useRooms().map(each => <JoinLink key={each.channelId} room={each} />)
  const { receive } = await render(<Rooms />)
  await receive(welcome(), subscribed(), snapshot([room('11')]))
  const link = page.querySelector('a')
  expect(link?.textContent).toBe('Join')
  expect(link?.getAttribute('href')).toBe(`https://discord.com/channels/${guildId}/11`)
  expect(link?.target).toBe('_blank')
  expect(link?.rel).toBe('noopener')
})

test('a JoinLink passes content and properties on, and no other address', async () => {
  const joinUrl = 'https://discord.com/channels/1/2'
  let clicks = 0
  const more = { href: 'https://elsewhere.example' }
  await render(
    <JoinLink
      room={{ joinUrl }}
      className="big"
      rel="noreferrer"
      target="_self"
      aria-label="Join it"
      onClick={event => {
        event.preventDefault()
        clicks++
      }}
      {...more}
    >
      Hop in
    </JoinLink>,
  )
  const link = page.querySelector('a')
  await act(async () => link?.click())
  expect(clicks).toBe(1)
  expect(link?.outerHTML).toBe(
    `<a target="_self" rel="noreferrer" class="big" aria-label="Join it" href="${joinUrl}">Hop in</a>`,
  )
})

test('a person sees in which room they are, live', async () => {
  function Mine() {
    const me = useMe()
    const rooms = useRooms().filter(each => isHere(each, me))
    return `${me?.sub ?? '-'}: ${rooms.map(each => each.name).join()}`
  }
  const { receive } = await render(<Mine />)
  expect(page.textContent).toBe('-: ')
  await receive(welcome({ sub: 'discord:8' }), subscribed(), snapshot(rooms))
  expect(page.textContent).toBe('discord:8: ')
  await receive(event('voice.joined', voice('12', '8'), { n: 1 }))
  expect(page.textContent).toBe('discord:8: Room 12')
})

test('useRoomActions has every command', async () => {
  let actions: object = {}
  function Actions() {
    actions = useRoomActions()
    return null
  }
  const { roomwire } = await render(<Actions />)
  const { createRoom, endRoom, createInvite, joinRoom, listRooms } = roomwire
  expect(actions).toEqual({ createRoom, endRoom, createInvite, joinRoom, listRooms })
})

test('actions are the same functions from render to render', async () => {
  const seen = new Set<unknown>()
  function Actions() {
    seen.add(useRoomActions())
    return useConnection().state
  }
  const { receive } = await render(<Actions />)
  await receive(welcome(), subscribed(), snapshot(rooms))
  // StrictMode renders twice, with a memory for each.
  expect(seen.size).toBeLessThanOrEqual(2)
})

test('a hook without a provider says what is missing', async () => {
  function Lost() {
    useRooms()
    return null
  }
  const alone = createRoot(document.createElement('div'))
  await expect(act(async () => alone.render(<Lost />))).rejects.toThrow('RoomwireProvider')
})
