// @vitest-environment happy-dom
/** The page with a hub of two rooms that a test speaks for. */
import { createRoomwire } from '@roomwire/sdk'
import { RoomwireProvider } from '@roomwire/sdk/react'
import { act } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  event,
  FakeSocket,
  room,
  snapshot,
  subscribed,
  tokenOf,
  voice,
  World,
  welcome,
} from '../../sdk/test/world.js'
import { App } from '../src/app.js'
import { ErrorBoundary } from '../src/error-boundary.js'
import { rightsOf } from '../src/rights.js'
import { RoomsPage } from '../src/rooms-page.js'
import { loadSession, saveSession, signedOf } from '../src/session.js'
import { SignIn } from '../src/sign-in.js'
import { applyStoredTheme } from '../src/theme.js'

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean
}

let root: Root
let page: HTMLElement

beforeEach(() => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true
  sessionStorage.clear()
  localStorage.clear()
  // Nothing lingers for people who prefer it so.
  window.matchMedia = query =>
    Object.assign(new EventTarget(), { matches: query.includes('reduced-motion') }) as MediaQueryList
  page = document.createElement('div')
  document.body.append(page)
  root = createRoot(page)
})

afterEach(async () => {
  await act(async () => root.unmount())
  page.remove()
})

const all = (testId: string) => [...page.querySelectorAll<HTMLElement>(`[data-testid="${testId}"]`)]
const one = (testId: string) => {
  const found = all(testId)[0]
  if (!found) throw new Error(`there is no ${testId}`)
  return found
}
const click = (testId: string) => act(async () => one(testId).click())

async function open(scope: string, rooms = [room('11', [voice('11', '7')]), room('12')], sub = 'ada') {
  const world = new World()
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => 't',
    environment: world.environment,
  })
  const signed = { sub, name: 'Ada', rights: rightsOf(scope), getToken: async () => 't' }
  const onSignOut = vi.fn()
  await act(async () => {
    root.render(
      <RoomwireProvider roomwire={roomwire}>
        <RoomsPage signed={signed} onSignOut={onSignOut} />
      </RoomwireProvider>,
    )
  })
  const receive = (...frames: object[]) =>
    act(async () => {
      for (const frame of frames) world.socket.receive(frame)
    })
  await act(async () => world.socket.open())
  await receive(welcome({ sub }), subscribed(), snapshot(rooms))
  return { world, receive, onSignOut }
}

test('rooms and members are shown, and follow events', async () => {
  const { receive } = await open('rooms:read')
  expect(all('room').map(each => each.dataset.channelId)).toEqual(['11', '12'])
  expect(all('member').map(each => each.dataset.userId)).toEqual(['7'])
  expect(one('connection').dataset.state).toBe('open')
  expect(one('gateway').dataset.state).toBe('live')
  await receive(
    event('voice.left', voice('11', '7'), { n: 1 }),
    event('voice.joined', voice('12', '7', { mute: true }), { n: 2 }),
  )
  expect(one('member').closest<HTMLElement>('[data-testid="room"]')?.dataset.channelId).toBe('12')
  expect(one('member').textContent).toContain('Muted by a moderator')
  await receive(event('room.deleted', { channelId: '12' }, { n: 3 }))
  expect(all('room').map(each => each.dataset.channelId)).toEqual(['11'])
})

test('names are shown as text', async () => {
  const name = '<img src=x onerror=alert(1)>'
  await open('rooms:read', [
    room('11', [voice('11', '7', { member: { displayName: name, avatarUrl: 'javascript:1' } })], { name }),
  ])
  expect(page.querySelector('h3')?.textContent).toBe(name)
  expect(one('member').textContent).toContain(name)
  expect(page.querySelector('[onerror]')).toBeNull()
})

test('a name with right-to-left marks does not turn the text around it', async () => {
  const name = '\u202eevil'
  await open('rooms:read', [
    room('11', [voice('11', '7', { member: { displayName: name, avatarUrl: 'https://x.example/a' } })], {
      name,
    }),
  ])
  expect([...page.querySelectorAll('bdi')].map(each => each.textContent)).toEqual([name, name])
})

test('rooms that may be out of date are marked', async () => {
  const { receive, world } = await open('rooms:read')
  expect(all('stale')).toEqual([])
  await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
  expect(one('stale').textContent).toContain('does not hear from Discord')
  await act(async () => world.socket.end(1006))
  expect(one('stale').textContent).toContain('does not hear from the hub')
  expect(one('connection').dataset.state).toBe('waiting')
  expect(one('gateway').dataset.state).toBe('unknown')
  expect(all('room')).toHaveLength(2)
})

test('a stale page describes the past', async () => {
  const { receive } = await open('rooms:read')
  expect(page.querySelector('.lead')?.textContent).toBe('One person in one room right now.')
  await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
  expect(page.querySelector('.lead')?.textContent).toBe('One person in one room when last heard.')
  await receive(
    event('voice.left', voice('11', '7'), { n: 1 }),
    event('room.deleted', { channelId: '11' }, { n: 2 }),
    event('room.deleted', { channelId: '12' }, { n: 3 }),
  )
  expect(page.querySelector('.lead')?.textContent).toBe('No room was open when last heard.')
  expect(page.querySelector('.empty')?.textContent).not.toContain('is open')
})

test('a hub that knows no room yet does not report an empty server', async () => {
  const { receive } = await open('rooms:read')
  const unheard = { gateway: { state: 'down', ageMs: 1, reason: 'no_worker' } }
  await receive(subscribed({ recovered: false }), snapshot([], { n: 0 }, unheard))
  expect(page.querySelector('.lead')?.textContent).toBe('No room is known yet.')
  expect(page.querySelector('.empty')?.textContent).not.toContain('was open')
  expect(one('stale').textContent).not.toContain('Shown as of')
})

test('of several guilds the least healthy one is shown', async () => {
  const { receive } = await open('rooms:read')
  const other = '100000000000000002'
  await receive(
    welcome({ guilds: ['100000000000000001', other] }),
    subscribed({ guildId: other }),
    subscribed(),
    snapshot([room('11')]),
    snapshot([room('21')], { guildId: other }, { gateway: { state: 'down', ageMs: 10 } }),
  )
  expect(all('room')).toHaveLength(2)
  expect(one('gateway').dataset.state).toBe('down')
  expect(one('stale').textContent).toContain('does not hear from Discord')
})

test('stale rooms are grey, with the reason and the time', async () => {
  const { receive, world } = await open('rooms:read')
  const list = () => page.querySelector('.rooms')?.className
  world.now = Date.now()
  expect(list()).toBe('rooms')
  await receive(event('gateway.state', { state: 'down', ageMs: 250_000, reason: 'worker_silent' }))
  expect(list()).toBe('rooms stale')
  expect(one('stale').textContent).toMatch(
    /^The hub does not hear from its gateway worker\. Shown as of .*\d\d.*, 4 minutes ago\.$/,
  )
  expect(one('stale').querySelector('time')?.dateTime).toBe(new Date(world.now - 250_000).toISOString())
  // The connection goes too: the rooms are no newer for it.
  await act(async () => world.socket.end(1006))
  expect(one('stale').textContent).toMatch(/^This page does not hear from the hub\. .* 4 minutes ago\.$/)
  await act(() => world.pass(500))
  await act(async () => world.socket.open())
  await receive(welcome(), subscribed({ recovered: true }))
  // Until the hub reports the gateway, nothing is fresh.
  expect(one('stale').textContent).toContain('catching up with the hub')
  expect(one('gateway').dataset.state).toBe('unknown')
  expect(list()).toBe('rooms stale')
  await receive(event('gateway.state', { state: 'live', ageMs: 1 }))
  expect(all('stale')).toEqual([])
  expect(list()).toBe('rooms')
})

test('the live region announces changes, and does not count down', async () => {
  const { receive, world } = await open('rooms:read')
  const announced = () => one('announcement').textContent
  expect(page.querySelectorAll('[role="status"]')).toHaveLength(1)
  expect(one('connection').closest('[role="status"]')).toBeNull()
  expect(announced()).toBe('Connected. What is shown is live.')
  await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
  expect(announced()).toBe(one('stale').querySelector('strong')?.textContent)
  await act(async () => world.socket.end(1006))
  const lost = announced()
  expect(lost).toContain('does not hear from the hub')
  for (let i = 0; i < 4; i++) {
    await act(() => world.pass(15_000))
    expect(announced()).toBe(lost)
  }
})

test('a person who may only watch gets no buttons', async () => {
  await open('rooms:read')
  expect(all('create-room-submit')).toEqual([])
  expect(all('end-room')).toEqual([])
})

const cardOf = (channelId: string) => {
  const card = page.querySelector<HTMLElement>(`[data-testid="room"][data-channel-id="${channelId}"]`)
  if (!card) throw new Error(`no card for ${channelId}`)
  return card
}
const joinOf = (channelId: string) => {
  const link = cardOf(channelId).querySelector<HTMLAnchorElement>('[data-testid="join"]')
  if (!link) throw new Error(`no link for ${channelId}`)
  return link
}

test('every room has a link that opens it in Discord, for people who may only watch too', async () => {
  await open('rooms:read')
  for (const channelId of ['11', '12']) {
    const link = joinOf(channelId)
    expect(link.getAttribute('href')).toBe(`https://discord.com/channels/100000000000000001/${channelId}`)
    expect(link.target).toBe('_blank')
    expect(link.rel).toBe('noopener')
    expect(link.textContent).toBe('Join')
    expect(link.getAttribute('aria-label')).toBe(`Join Room ${channelId} in Discord`)
    expect(link.className).toBe('join')
  }
})

test('the link of a full room is muted, with the reason, until a place is free', async () => {
  const { receive } = await open('rooms:read', [
    room('11', [voice('11', '7'), voice('11', '8')], { userLimit: 2 }),
    room('12', [voice('12', '9')], { userLimit: 0 }),
  ])
  const reason = () => document.getElementById(joinOf('11').getAttribute('aria-describedby') ?? '')
  expect(joinOf('11').className).toBe('join muted')
  expect(joinOf('11').getAttribute('href')).toContain('/11')
  expect(reason()?.textContent).toBe('No free place')
  expect(joinOf('12').className).toBe('join')
  await receive(event('voice.left', voice('11', '8'), { n: 1 }))
  expect(joinOf('11').className).toBe('join')
  expect(reason()).toBeNull()
})

test('the room in which a person is comes first, and says so', async () => {
  const { receive } = await open('rooms:read', undefined, 'discord:8')
  const order = () => all('room').map(each => each.dataset.channelId)
  expect(all('here')).toEqual([])
  expect(order()).toEqual(['11', '12'])
  await receive(event('voice.joined', voice('12', '8'), { n: 1 }))
  expect(order()).toEqual(['12', '11'])
  expect(all('here')).toHaveLength(1)
  expect(cardOf('12').className).toContain('here')
  expect(cardOf('12').textContent).toContain('You are here')
  expect(joinOf('12').getAttribute('aria-label')).toBe('Open Room 12 in Discord')
  await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
  expect(one('here').textContent).toBe('You were here')
  await receive(event('voice.left', voice('12', '8'), { n: 2 }))
  expect(all('here')).toEqual([])
  expect(order()).toEqual(['11', '12'])
})

test('nobody is marked if the token names no Discord user', async () => {
  await open('rooms:read', undefined, '7')
  expect(all('member').map(each => each.dataset.userId)).toEqual(['7'])
  expect(all('here')).toEqual([])
})

describe('an invite', () => {
  const invite = { url: 'https://discord.gg/abc', code: 'abc', expiresAt: Date.now() + 600_000 }
  const answer = async () => Response.json(invite, { status: 201 })
  const writeText = vi.fn(async (_: string) => {})

  beforeEach(() => {
    writeText.mockReset()
    Object.defineProperty(navigator, 'clipboard', { value: { writeText }, configurable: true })
  })

  test.each([
    ['rooms:read', 0],
    ['rooms:read rooms:end', 0],
    ['rooms:read rooms:create', 2],
    ['rooms:read rooms:manage', 2],
    ['', 2],
  ])('with the scope %j is offered in %i of two rooms', async (scope, offers) => {
    await open(scope)
    expect(all('invite')).toHaveLength(offers)
  })

  test('is created once, shown with its end, and copied', async () => {
    const { world } = await open('rooms:read rooms:create', [room('11')])
    let give = (_: Response) => {}
    world.answer = () => new Promise(resolve => (give = resolve))
    await click('invite')
    await act(() => world.settle())
    expect(one('invite').textContent).toBe('Inviting…')
    await click('invite')
    await act(() => world.settle())
    await act(async () => give(await answer()))
    await act(() => world.settle())
    expect(world.requests.map(({ url, init }) => `${init.method} ${url}`)).toEqual([
      'POST https://hub.example/api/rooms/11/invites',
    ])
    expect((one('invite-url') as HTMLInputElement).value).toBe(invite.url)
    expect(cardOf('11').textContent).toMatch(/Valid until .*\d\d/)
    expect(document.activeElement).toBe(one('invite-copy'))
    await click('invite-copy')
    await act(() => world.settle())
    expect(writeText).toHaveBeenCalledExactlyOnceWith(invite.url)
    expect(one('invite-copy').textContent).toBe('Copied')
    await click('invite-dismiss')
    expect(all('invite-url')).toEqual([])
    expect(document.activeElement).toBe(one('invite'))
  })

  test('without an end says that it does not expire', async () => {
    const { world } = await open('rooms:read rooms:create', [room('11')])
    world.answer = async () => Response.json({ url: invite.url, code: 'abc' }, { status: 201 })
    await click('invite')
    await act(() => world.settle())
    expect(cardOf('11').textContent).toContain('It does not expire.')
  })

  test('that the browser does not copy is marked, for the person to copy', async () => {
    const { world } = await open('rooms:read rooms:create', [room('11')])
    world.answer = answer
    writeText.mockRejectedValue(new Error('not allowed'))
    await click('invite')
    await act(() => world.settle())
    await click('invite-copy')
    await act(() => world.settle())
    expect(one('invite-copy').textContent).toBe('Copy')
    expect(cardOf('11').textContent).toContain('Copy the marked link yourself')
    const field = one('invite-url') as HTMLInputElement
    expect(field.value.slice(field.selectionStart ?? 0, field.selectionEnd ?? 0)).toBe(invite.url)
  })

  test('that is refused shows the problem in its room, and can be asked for again', async () => {
    const { world } = await open('rooms:read rooms:create')
    const refusal = { code: 'DISCORD_FORBIDDEN', title: 'Discord does not allow it', detail: 'a permission' }
    world.answer = async () => Response.json({ ...refusal, requestId: 'r9' }, { status: 502 })
    await act(async () => all('invite')[1]?.click())
    await act(() => world.settle())
    const alert = () => page.querySelector('[role="alert"]')
    expect(alert()?.closest('[data-testid="room"]')).toBe(cardOf('12'))
    expect(alert()?.textContent).toContain('Discord does not allow it')
    expect(alert()?.textContent).toContain('r9')
    await act(async () => page.querySelector<HTMLElement>('[aria-label="Dismiss"]')?.click())
    expect(alert()).toBeNull()
    expect(document.activeElement).toBe(all('invite')[1])
    world.answer = answer
    await act(async () => all('invite')[1]?.click())
    await act(() => world.settle())
    expect((one('invite-url') as HTMLInputElement).value).toBe(invite.url)
  })
})

test('a created room is awaited, shown, and can be ended by its creator', async () => {
  const { receive, world } = await open('rooms:read rooms:create rooms:end')
  const made = { channelId: '99', name: 'Talk', guildId: '1', userLimit: 4 }
  world.answer = async () => new Response(JSON.stringify(made), { status: 201 })
  await click('create-room-submit')
  await act(() => world.settle())
  expect(world.requests[0]?.init.body).toBe('{"userLimit":4}')
  expect(page.textContent).toContain('opening…')
  expect(all('end-room')).toEqual([])

  await receive(event('room.created', made, { n: 1 }))
  expect(page.textContent).not.toContain('opening…')
  expect(all('end-room')).toHaveLength(1)

  world.answer = async () => new Response('{"ok":true}')
  await click('end-room')
  expect(world.requests).toHaveLength(1)
  await click('end-room-confirm')
  await act(() => world.settle())
  expect(world.requests[1]?.url).toBe('https://hub.example/api/end-room/99')
  await receive(event('room.deleted', made, { n: 2 }))
  expect(page.querySelector('.opening')).toBeNull()
})

test('while the gateway is down, commands succeed and their rooms are awaited', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const { receive, world } = await open('rooms:read rooms:create rooms:manage')
    await receive(event('gateway.state', { state: 'down', ageMs: 1 }))
    world.answer = async (_, init) =>
      init.method === 'POST'
        ? new Response('{"channelId":"99","name":"Talk","guildId":"1","userLimit":4}', { status: 201 })
        : new Response('{"ok":true}')
    await click('create-room-submit')
    await act(() => world.settle())
    await act(async () => vi.advanceTimersByTime(600_000))
    expect(page.textContent).toContain('opening…')

    await click('end-room')
    await click('end-room-confirm')
    await act(() => world.settle())
    expect(one('room').textContent).toContain(
      'Ended. The page follows when the hub hears from Discord again.',
    )

    // Heard again, and nothing of the room: it will not come.
    await receive(event('gateway.state', { state: 'live', ageMs: 1 }))
    await act(async () => vi.advanceTimersByTime(10_000))
    expect(page.textContent).not.toContain('opening…')
  } finally {
    vi.useRealTimers()
  }
})

test('the creator of a room can end it from another tab, and nobody else can', async () => {
  const { receive } = await open('rooms:read rooms:end')
  expect(all('end-room')).toEqual([])
  const store = (rooms: string) =>
    act(async () => {
      localStorage.setItem('roomwire.own-rooms.ada', rooms)
      window.dispatchEvent(new StorageEvent('storage'))
    })
  await store('["12"]')
  expect(one('end-room').closest<HTMLElement>('[data-testid="room"]')?.dataset.channelId).toBe('12')
  await store('{"no":"list"')
  expect(all('end-room')).toEqual([])
  localStorage.setItem('roomwire.own-rooms.grace', '["11"]')
  await receive(event('room.created', { channelId: '13', name: 'More' }, { n: 1 }))
  expect(all('end-room')).toEqual([])
})

test('a problem is shown beside its control', async () => {
  const { world } = await open('rooms:manage rooms:create')
  world.answer = async () =>
    new Response(
      JSON.stringify({ code: 'NOT_FOUND', title: 'Not found', detail: 'no such room', requestId: 'r7' }),
      {
        status: 404,
      },
    )
  await act(async () => all('end-room')[1]?.click())
  await click('end-room-confirm')
  await act(() => world.settle())
  const alert = all('room')[1]?.querySelector('[role="alert"]')
  expect(alert?.textContent).toContain('Roomwire did not make it')
  expect(alert?.textContent).toContain('r7')
})

test('the focus stays where a question is asked, answered, refused and dismissed', async () => {
  const { world } = await open('rooms:read rooms:create rooms:manage', [room('11')])
  const focused = () => {
    const active = document.activeElement as HTMLElement | null
    return active?.dataset.testid ?? active?.getAttribute('aria-label') ?? active?.textContent
  }
  await click('end-room')
  expect(focused()).toBe('end-room-confirm')
  await act(async () => page.querySelector<HTMLElement>('.answers .quiet')?.click())
  expect(focused()).toBe('end-room')

  let answer = (_: Response) => {}
  world.answer = () => new Promise(resolve => (answer = resolve))
  await click('end-room')
  await click('end-room-confirm')
  await act(() => world.settle())
  expect(focused()).toBe('end-room-confirm')
  await click('end-room-confirm')
  expect(world.requests).toHaveLength(1)
  await act(async () => answer(new Response('', { status: 404 })))
  await act(() => world.settle())
  expect(focused()).toBe('Dismiss')
  await act(async () => page.querySelector<HTMLElement>('[aria-label="Dismiss"]')?.click())
  expect(focused()).toBe('end-room')

  world.answer = async () => new Response('{"ok":true}')
  await click('end-room')
  await click('end-room-confirm')
  await act(() => world.settle())
  expect(focused()).toBe('Ended.')

  world.answer = async () => new Response('', { status: 403 })
  await click('create-room-submit')
  await act(() => world.settle())
  await act(async () => page.querySelector<HTMLElement>('[aria-label="Dismiss"]')?.click())
  expect(focused()).toBe('create-room-name')
})

test('a room is created once, although the form is submitted twice and no answer arrives', async () => {
  const { world } = await open('rooms:read rooms:create')
  const button = () => one('create-room-submit')
  const keys = () => world.requests.map(({ init }) => new Headers(init.headers).get('idempotency-key'))
  world.answer = async () => new Response('', { status: 503 })
  await act(async () => {
    button().click()
    button().click()
  })
  await act(() => world.settle())
  expect(new Set(keys()).size).toBe(1)
  await click('create-room-submit')
  await act(() => world.pass(30_000))
  expect(button().textContent).toBe('Opening…')
  expect(button().getAttribute('aria-disabled')).toBe('true')
  expect(page.querySelector('[role="alert"]')).toBeNull()

  await act(() => world.pass(30_000))
  expect(button().textContent).toBe('Open room')
  expect(page.querySelector('[role="alert"]')?.textContent).toContain('The hub answered with status 503')
  const sent = keys().length
  world.answer = async () => new Response('{"channelId":"12","name":"Talk"}', { status: 201 })
  await click('create-room-submit')
  await act(() => world.settle())
  expect(keys()).toHaveLength(sent + 1)
  expect(new Set(keys()).size).toBe(1)

  await click('create-room-submit')
  await act(() => world.settle())
  expect(new Set(keys()).size).toBe(2)
})

test('without rooms the page shows a friendly text', async () => {
  await open('rooms:read', [])
  expect(page.textContent).toContain('It is quiet here')
})

test('a failure with a hint is shown, and one without is not', async () => {
  const { world } = await open('rooms:read')
  await act(async () => world.socket.end(1006))
  expect(all('failure')).toEqual([])
  await act(() => world.pass(1_000))
  await act(async () => world.socket.open())
  await act(async () => world.socket.end(4401))
  expect(one('failure').dataset.failure).toBe('token_invalid')
  expect(one('failure').textContent).toContain('The hub does not accept the token.')
  expect(one('announcement').textContent).not.toBe('')
  await act(() => world.pass(1_000))
  expect(one('connection').dataset.state).toBe('connecting')
  expect(one('failure').dataset.failure).toBe('token_invalid')
  await act(async () => world.socket.end(4403))
  expect(one('failure').dataset.failure).toBe('forbidden')
  expect(one('failure').textContent).toContain('rooms:read')
  expect(one('connection').textContent).toContain('Not connected')
})

test('a failing issuer is reported with its reason', async () => {
  const config = {
    signIn: { kind: 'demo' as const, issuerUrl: 'https://issuer.example' },
    guildIds: ['1'],
  }
  const onSignIn = vi.fn()
  await act(async () => root.render(<SignIn config={config} notice={null} onSignIn={onSignIn} />))
  const alert = () => page.querySelector('[role="alert"]')?.textContent
  try {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')))
    await click('sign-in-ada')
    await vi.waitFor(() => expect(alert()).toContain('does not answer, or does not allow the origin'))
    vi.stubGlobal('fetch', async () => new Response('', { status: 502 }))
    await click('sign-in-ada')
    await vi.waitFor(() => expect(alert()).toContain('answered with status 502'))
    vi.stubGlobal('fetch', async () => new Response('<!doctype html>'))
    await click('sign-in-ada')
    await vi.waitFor(() => expect(alert()).toContain('no token'))
  } finally {
    vi.unstubAllGlobals()
  }
  expect(onSignIn).not.toHaveBeenCalled()
})

const token = `x.${btoa(JSON.stringify({ sub: 'ada', scope: '' }))}.x`

test('a pasted token signs in, and other text does not', async () => {
  const onSignIn = vi.fn()
  const config = { signIn: { kind: 'token' as const }, guildIds: ['1'] }
  await act(async () => root.render(<SignIn config={config} notice={null} onSignIn={onSignIn} />))
  const field = one('token') as HTMLTextAreaElement
  const type = (text: string) =>
    act(async () => {
      Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value')?.set?.call(field, text)
      field.dispatchEvent(new Event('input', { bubbles: true }))
    })
  await type('nonsense')
  await click('sign-in-token')
  expect(onSignIn).not.toHaveBeenCalled()
  expect(page.textContent).toContain('This is not a JWT')
  await type(`x.${btoa(JSON.stringify({ sub: 'ada', exp: Date.now() / 1_000 - 250 }))}.x`)
  await click('sign-in-token')
  expect(page.textContent).toContain('This token expired 4 minutes ago.')
  expect(onSignIn).not.toHaveBeenCalled()
  await type(` ${token}\n`)
  await click('sign-in-token')
  expect(onSignIn).toHaveBeenCalledWith({ kind: 'token', token })
})

test('a session lives in its tab, and ends when the hub refuses its token', async () => {
  saveSession({ kind: 'token', token })
  const session = loadSession()
  if (!session) throw new Error('not kept')
  const onRefused = vi.fn()
  const signed = signedOf({ signIn: { kind: 'token' }, guildIds: [] }, session, onRefused)
  expect(await signed?.getToken('connect')).toBe(token)
  await expect(signed?.getToken('refused')).rejects.toThrow()
  expect(onRefused).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('does not accept this token'))
  const expired = `x.${btoa(JSON.stringify({ sub: 'ada', exp: 1 }))}.x`
  const late = signedOf(
    { signIn: { kind: 'token' }, guildIds: [] },
    { kind: 'token', token: expired },
    onRefused,
  )
  await expect(late?.getToken('refused')).rejects.toThrow()
  expect(onRefused).toHaveBeenLastCalledWith(expect.stringContaining('This token expired'))
  saveSession(null)
  expect(loadSession()).toBeNull()
  sessionStorage.setItem('roomwire.session', '{"kind":')
  expect(loadSession()).toBeNull()
})

test('signing out as Ada and in as Grace leaves nothing of Ada on the page, in the frames or in commands', async () => {
  const sockets: FakeSocket[] = []
  const requests: { url: string; init: RequestInit }[] = []
  vi.stubGlobal(
    'WebSocket',
    class extends FakeSocket {
      constructor(url: string) {
        super(url)
        sockets.push(this)
      }
    },
  )
  vi.stubGlobal('fetch', async (url: string, init: RequestInit = {}) => {
    if (url === '/console.json')
      return Response.json({ signIn: { kind: 'demo', issuerUrl: 'https://issuer.example' }, guildIds: ['1'] })
    if (url === 'https://issuer.example/token')
      return Response.json({ token: tokenOf(JSON.parse(String(init.body)).sub) })
    requests.push({ url, init })
    return Response.json({ channelId: '99', name: 'Talk', guildId: '1', userLimit: 4 }, { status: 201 })
  })
  const socket = () => {
    const last = sockets.at(-1)
    if (!last) throw new Error('the page did not connect')
    return last
  }
  const seen: string[] = []
  const watch = new MutationObserver(() => seen.push(page.textContent ?? ''))
  watch.observe(page, { subtree: true, childList: true, characterData: true })
  const signIn = async (sub: string, member: string) => {
    const before = sockets.length
    await click(`sign-in-${sub}`)
    await vi.waitFor(() => expect(sockets.length).toBeGreaterThan(before))
    await act(async () => {
      socket().open()
      for (const frame of [
        welcome({ sub }),
        subscribed(),
        snapshot([room('11', [voice('11', member, { member: { displayName: member, avatarUrl: '' } })])]),
      ])
        socket().receive(frame)
    })
  }
  try {
    await act(async () => root.render(<App />))
    await vi.waitFor(() => one('sign-in-ada'))
    await signIn('ada', 'Only Ada may see this')
    expect(page.textContent).toContain('Only Ada may see this')
    await click('sign-out')
    seen.length = 0
    await signIn('grace', 'Grace sees this')
    await act(async () => Promise.resolve())
    expect(page.textContent).toContain('Grace sees this')
    expect(seen.length).toBeGreaterThan(0)
    expect(seen.filter(text => text.includes('Only Ada'))).toEqual([])
    expect(socket().sent[0]).toEqual({ type: 'auth', token: tokenOf('grace') })
    await click('create-room-submit')
    await vi.waitFor(() => expect(requests).toHaveLength(1))
    expect(requests[0]?.init.headers).toMatchObject({ authorization: `Bearer ${tokenOf('grace')}` })
    expect(Object.keys(sessionStorage)).toEqual(['roomwire.session'])
  } finally {
    watch.disconnect()
    await act(async () => root.unmount())
    vi.unstubAllGlobals()
    root = createRoot(page)
  }
})

test('a part of the page that fails does not leave an empty page', async () => {
  const quiet = vi.spyOn(console, 'error').mockImplementation(() => {})
  const Broken = () => {
    throw new Error('of the page')
  }
  await act(async () =>
    root.render(
      <ErrorBoundary>
        <Broken />
      </ErrorBoundary>,
    ),
  )
  expect(page.querySelector('[role="alert"]')?.textContent).toContain('The page has failed')
  expect(page.querySelector('button')?.textContent).toBe('Load it again')
  quiet.mockRestore()
})

test('the stored theme applies before anybody signs in', () => {
  const { dataset } = document.documentElement
  applyStoredTheme()
  expect(dataset.theme).toBeUndefined()
  localStorage.setItem('roomwire.theme', 'dark')
  applyStoredTheme()
  expect(dataset.theme).toBe('dark')
  delete dataset.theme
})
