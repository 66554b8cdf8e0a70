/** Failures can be distinguished: by a word for programs, in words for people, and with what to do about them. */
import { describe, expect, test } from 'vitest'
import type { ConnectionEnd, RoomwireOptions } from '../src/index.js'
import { createRoomwire, RoomwireProblem } from '../src/index.js'
import { connected, start } from './connections.js'
import { tokenOf, World, welcome } from './world.js'

type HubConnection = ReturnType<typeof start>

function reasonOf({ connection }: Pick<HubConnection, 'connection'>): ConnectionEnd {
  const now = connection()
  const reason = now.state === 'waiting' || now.state === 'closed' ? now.reason : null
  if (!reason) throw new Error(`there is no reason in ${now.state}`)
  return reason
}

const refused = (asked: Promise<unknown>) =>
  asked.then(
    () => {
      throw new Error('it was not refused')
    },
    (problem: unknown) => problem,
  )

describe('an address', () => {
  test.each([
    ['hub.example', 'has no scheme'],
    ['localhost:3000', 'has no scheme'],
    ['127.0.0.1:3000', 'has no scheme'],
    ['//hub.example', 'has no scheme'],
    ['/hub', 'has no scheme'],
    ['https:hub.example', 'has no scheme'],
    ['https:/hub.example', 'has no scheme'],
    ['', 'is missing'],
    [undefined, 'is missing'],
    [null, 'is missing'],
    [new URL('https://hub.example'), 'is no text'],
    ['ws://hub.example', 'begins with "ws://"'],
    ['WSS://hub.example', 'begins with "WSS://"'],
    ['ftp://hub.example', 'has the scheme "ftp"'],
    ['file:///hub', 'has the scheme "file"'],
    ['https://hub.example ', 'contains white space'],
    [' https://hub.example', 'contains white space'],
    ['https://hub.example\n', 'contains white space'],
    ['https://hub .example', 'contains white space'],
    ['https://ada:secret@hub.example', 'contains a user name or a password'],
    ['https://ada@hub.example', 'contains a user name or a password'],
    ['https://hub.example?token=x', 'contains a query or a fragment'],
    ['https://hub.example/#rooms', 'contains a query or a fragment'],
    ['https://hub.example/api/ws', 'ends with "/api/ws"'],
    ['https://', 'has no valid host'],
    ['https:///hub', 'has no valid host'],
    ['https://hub.example:99999', 'has no valid host'],
    ['https:\\\\hub.example', 'has no scheme'],
  ])('%s is refused at once: it %s', (url, words) => {
    const make = () => createRoomwire({ url: url as string, getToken: async () => 't' })
    expect(make).toThrow(TypeError)
    expect(make).toThrow(words)
    expect(make).toThrow('such as "https://hub.example"')
  })

  test('with a password does not get into the text of the error', () => {
    expect(() => createRoomwire({ url: 'https://a:secret@h', getToken: async () => 't' })).toThrow(
      /^(?!.*secret)/,
    )
  })

  test.each([
    ['https://hub.example', 'wss://hub.example/api/ws'],
    ['https://hub.example/', 'wss://hub.example/api/ws'],
    ['HTTPS://Hub.Example', 'wss://hub.example/api/ws'],
    ['http://[::1]:3000', 'ws://[::1]:3000/api/ws'],
    ['https://app.example/Voice/', 'wss://app.example/Voice/api/ws'],
    ['http://bücher.example', 'ws://bücher.example/api/ws'],
  ])('%s is connected to as %s', async (url, expected) => {
    const { world } = await connected({ url })
    expect(world.socket.url).toBe(expected)
  })
})

describe('getToken', () => {
  const html = '\n<!doctype html>\n<title>Sign in</title>'
  test.each<[string, () => unknown, string, string]>([
    ['throws', () => Promise.reject(new Error('no session')), 'token_failed', 'getToken failed: no session'],
    ['rejects with a status', () => Promise.reject(502), 'token_failed', 'getToken failed: 502'],
    ['gives an HTML page', async () => html, 'token_malformed', 'an HTML page'],
    ['gives JSON', async () => '{"token":"eyJ"}', 'token_malformed', 'JSON'],
    ['gives a text in quotes', async () => '"eyJ.eyJ.x"', 'token_malformed', 'JSON'],
    ['gives the words of an error', async () => 'Internal Server Error', 'token_malformed', 'characters'],
    ['gives a header', async () => 'Bearer eyJ.eyJ.x', 'token_malformed', 'a header'],
    ['gives an object', async () => ({ token: 'eyJ' }), 'token_malformed', 'a value of type object'],
    ['gives nothing', async () => undefined, 'token_malformed', 'a value of type undefined'],
    ['gives null', async () => null, 'token_malformed', 'null'],
    ['gives an empty text', async () => ' \n', 'token_malformed', 'an empty text'],
    ['gives the text "undefined"', async () => 'undefined', 'token_malformed', '"undefined"'],
    ['gives two lines', async () => 'eyJ.eyJ.x\nset-cookie: a', 'token_malformed', 'characters'],
  ])('that %s is distinguished, warned of once, and asked again', async (_, give, failure, words) => {
    let asked = 0
    const page = start({
      getToken: () => {
        asked++
        return give() as Promise<string>
      },
    })
    page.roomwire.connect()
    await page.world.settle()
    expect(page.connection().state).toBe('waiting')
    expect(reasonOf(page)).toMatchObject({ code: null, failure })
    expect(reasonOf(page).text).toContain(words)
    await page.world.pass(60_000)
    expect(asked).toBeGreaterThan(2)
    expect(page.world.sockets).toHaveLength(0)
    expect(page.world.warnings).toHaveLength(1)
    expect(page.world.warnings[0]).toMatch(/^Roomwire: getToken .*\. [A-Z].*\.$/)
    const problem = await refused(page.roomwire.endRoom('5'))
    expect(problem).toBeInstanceOf(RoomwireProblem)
    expect(problem).toMatchObject({ code: 'UNAUTHORIZED', status: 0, failure })
    expect((problem as RoomwireProblem).message).toContain(words)
    expect(page.world.warnings).toHaveLength(1)
  })

  test('that throws keeps its error as the cause, on the connection and of a command', async () => {
    const error = new Error('no session')
    const page = start({ getToken: () => Promise.reject(error) })
    page.roomwire.connect()
    await page.world.settle()
    expect(reasonOf(page).cause).toBe(error)
    expect(((await refused(page.roomwire.endRoom('5'))) as Error).cause).toBe(error)
  })

  test('that never answers is distinguished from one that fails', async () => {
    const page = start({ getToken: () => new Promise(() => {}) })
    page.roomwire.connect()
    await page.world.pass(15_000)
    expect(reasonOf(page)).toMatchObject({ failure: 'token_late' })
  })

  test('that fails to renew is warned of while the connection is still open', async () => {
    let asked = 0
    const { world, connection } = await connected({
      timeouts: { quietMs: 1e8 },
      getToken: async () => (++asked === 1 ? 'token-1' : '<html>'),
    })
    await world.pass(3_545_000)
    expect(connection().state).toBe('open')
    expect(world.warnings).toHaveLength(1)
  })

  test.each(['\n  ', '\t', '﻿'])('may give white space (%j) around a token', async space => {
    const { world } = await connected({ getToken: async () => `${space}${tokenOf('ada')}${space}` })
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token: tokenOf('ada') })
    world.answer = async () => new Response('{"ok":true}')
    await start({
      environment: world.environment,
      getToken: async () => ` ${tokenOf('ada')}\n`,
    }).roomwire.endRoom('5')
    expect(world.requests[0]?.init.headers).toMatchObject({ authorization: `Bearer ${tokenOf('ada')}` })
  })
})

describe('a token', () => {
  async function offer(token: string, code = 4401) {
    let asked = 0
    const page = start({
      getToken: async () => {
        asked++
        return token
      },
    })
    page.roomwire.connect()
    await page.world.settle()
    page.world.socket.open()
    page.world.socket.end(code)
    return { ...page, asked: () => asked }
  }
  const hour = { exp: 1_000 + 3_600 }

  test('that the hub never accepted is distinguished from one that has expired', async () => {
    const never = await offer(tokenOf('ada', { ...hour, iss: 'https://other.example', aud: 'app' }))
    expect(reasonOf(never)).toMatchObject({ code: 4401, failure: 'token_invalid' })
    expect(reasonOf(never).hint).toContain('iss "https://other.example" and aud "app"')
    const expired = await offer(tokenOf('ada', { exp: 1_000 - 90 }))
    expect(reasonOf(expired)).toMatchObject({ failure: 'token_expired', text: 'the token expired 90 s ago' })
    const early = await offer(tokenOf('ada', { ...hour, nbf: 1_000 + 60 }))
    expect(reasonOf(early)).toMatchObject({ failure: 'token_invalid' })
    expect(reasonOf(early).text).toContain('yet')
    const opaque = await offer('abc')
    expect(reasonOf(opaque)).toMatchObject({ failure: 'token_invalid' })
    expect(reasonOf(opaque).hint).toContain('no JWT')
    for (const { world } of [never, expired, early, opaque]) expect(world.warnings).toHaveLength(1)
  })

  test('that is refused is judged by the clock of the hub, however wrong the one of this machine is', async () => {
    const page = start({ getToken: async () => tokenOf('ada', { exp: 5_000 }) })
    const refuse = async (hubMs: number) => {
      page.world.socket.open()
      page.world.socket.receive({
        v: 1,
        type: 'error',
        error: { code: 'UNAUTHORIZED', message: 'the token does not hold' },
        ts: hubMs,
      })
      page.world.socket.end(4401)
      const reason = reasonOf(page)
      await page.world.pass(15_000)
      return reason
    }
    page.roomwire.connect()
    await page.world.settle()
    page.world.now = 9_000_000_000
    expect(await refuse(1_000_000)).toMatchObject({ failure: 'token_invalid' })
    page.world.now = 1_000
    expect(await refuse(5_030_000)).toMatchObject({ text: 'the token expired 30 s ago' })
  })

  test('that expired on an open connection is no mistake, and nobody is warned', async () => {
    const page = await connected()
    page.world.socket.end(4401)
    expect(reasonOf(page)).toMatchObject({ failure: 'token_expired', hint: null })
    expect(page.world.warnings).toEqual([])
  })

  test('that does not allow this page is reported with the words of the hub', async () => {
    const page = start()
    page.roomwire.connect()
    await page.world.settle()
    page.world.socket.open()
    page.world.socket.receive({
      v: 1,
      type: 'error',
      error: { code: 'FORBIDDEN', message: 'the token lacks rooms:read' },
      ts: 0,
    })
    page.world.socket.end(4403)
    expect(reasonOf(page)).toMatchObject({
      failure: 'forbidden',
      text: 'not allowed: the token lacks rooms:read',
    })
    expect(page.world.warnings).toHaveLength(1)
  })

  test('that is refused by a command says why in the same words', async () => {
    const world = new World()
    world.answer = async () =>
      new Response('{"code":"UNAUTHORIZED","title":"A valid token is needed"}', { status: 401 })
    const { roomwire } = start({
      environment: world.environment,
      getToken: async () => tokenOf('ada', { exp: 1_000 - 90 }),
    })
    const problem = await refused(roomwire.endRoom('5'))
    expect(problem).toMatchObject({ code: 'UNAUTHORIZED', status: 401, failure: 'token_expired' })
    expect(world.requests).toHaveLength(2)
    expect(world.warnings).toHaveLength(1)
  })

  const large = (bytes: number) => {
    const token = tokenOf('ada', hour)
    return token + 'x'.repeat(bytes - token.length)
  }

  test('of 8 KiB and beside it a guild, a room and a position fit the first frame', async () => {
    const token = large(8_192)
    const { world } = await connected({ guilds: ['1'], rooms: ['2'], getToken: async () => token })
    expect(world.socket.sent[0]).toEqual({ type: 'auth', token, guilds: ['1'], rooms: ['2'] })
  })

  test('that is too large for the first frame ends it with the size, and getToken is asked once', async () => {
    let asked = 0
    const page = start({
      getToken: async () => {
        asked++
        return large(13_000)
      },
    })
    page.roomwire.connect()
    await page.world.settle()
    await page.world.pass(600_000)
    expect(page.connection().state).toBe('closed')
    expect(reasonOf(page)).toMatchObject({ failure: 'token_too_large' })
    expect(reasonOf(page).text).toMatch(/13000 bytes.*room for 122\d\d$/)
    expect(asked).toBe(1)
    expect(page.world.sockets).toHaveLength(0)
    expect(page.world.warnings).toHaveLength(1)
  })

  test('that the hub refuses for its size ends it too, and names the size', async () => {
    const page = await offer(large(9_000))
    await page.world.pass(600_000)
    expect(page.connection().state).toBe('closed')
    expect(reasonOf(page)).toMatchObject({ failure: 'token_too_large' })
    expect(reasonOf(page).text).toMatch(/9000 bytes.*accepts 8192 /)
    expect(page.asked()).toBe(1)
  })

  const largeWith = (claims: object) => tokenOf('ada', { ...claims, roles: 'x'.repeat(9_000) })

  test.each([
    ['expired', { exp: 1_000 - 90 }, 'token_expired', /expired 90 s ago/],
    ['is not valid yet', { exp: 5_000, nbf: 1_060 }, 'token_invalid', /does not accept the token yet/],
  ])(
    'of more than 8 KiB that %s is called that, and another one is asked for',
    async (_, claims, failure, text) => {
      const page = await offer(largeWith(claims))
      expect(page.connection().state).toBe('waiting')
      expect(reasonOf(page)).toMatchObject({ failure, text: expect.stringMatching(text) })
      await page.world.pass(600_000)
      expect(page.asked()).toBeGreaterThan(1)
    },
  )

  test('of more than 8 KiB that expired is called that by a command too', async () => {
    const world = new World()
    world.answer = async () => new Response('{"code":"UNAUTHORIZED"}', { status: 401 })
    const { roomwire } = start({
      environment: world.environment,
      getToken: async () => largeWith({ exp: 1_000 - 90 }),
    })
    expect(await refused(roomwire.endRoom('5'))).toMatchObject({ failure: 'token_expired' })
  })

  test.each([
    [16_384, 10_000, 'token_invalid'],
    [16_384, 12_300, 'token_too_large'],
    [4_096, 2_000, 'token_invalid'],
  ])(
    'with firstFrameBytesMax %i and of %i bytes, if refused, is %s',
    async (firstFrameBytesMax, bytes, failure) => {
      const page = start({ firstFrameBytesMax, getToken: async () => large(bytes) })
      page.roomwire.connect()
      await page.world.settle()
      page.world.socket.open()
      page.world.socket.end(4401)
      expect(reasonOf(page)).toMatchObject({ failure })
      page.world.answer = async () => new Response('{"code":"UNAUTHORIZED"}', { status: 401 })
      expect(await refused(page.roomwire.endRoom('5'))).toMatchObject({ failure })
    },
  )

  test('that a hub with a lower limit closes over names the size that the hub named', async () => {
    const page = start({ getToken: async () => large(5_000) })
    page.roomwire.connect()
    await page.world.settle()
    page.world.socket.open()
    page.world.socket.receive({
      v: 1,
      type: 'error',
      error: { code: 'TOO_LARGE', message: 'a message before authentication is at most 4096 bytes' },
      ts: 0,
    })
    page.world.socket.end(1009)
    expect(page.connection().state).toBe('closed')
    expect(reasonOf(page)).toMatchObject({ code: 1009, failure: 'token_too_large' })
    expect(reasonOf(page).text).toMatch(/5000 bytes.*at most 4096 bytes/)
  })

  test('of any size is given to a command: the hub decides', async () => {
    const { world, roomwire } = start({ getToken: async () => large(13_000) })
    world.answer = async () => new Response('{"ok":true}')
    await roomwire.endRoom('5')
    expect(world.requests).toHaveLength(1)
  })

  test('has more room where the hub accepts larger first frames', async () => {
    const { world } = await connected({ firstFrameBytesMax: 16_384, getToken: async () => large(13_000) })
    expect(world.socket.sent[0]).toMatchObject({ token: large(13_000) })
  })
})

describe('a hub', () => {
  type Answers = Record<string, () => Response>
  const problem = (status: number) => () =>
    Response.json({ type: 'urn:roomwire:bad_request', code: 'BAD_REQUEST' }, { status })
  const html = () => new Response('<!doctype html>')
  const redirected = (url: string) => () =>
    Object.defineProperties(problem(400)(), { redirected: { value: true }, url: { value: url } })

  /** A page whose handshakes fail; requests that `answers` does not name fail too. */
  async function unreachable(answers: Answers, options: Partial<RoomwireOptions> = {}, origin?: string) {
    const page = start(options)
    const { world } = page
    if (origin !== undefined) world.pageOrigin = origin
    world.answer = async (url, { mode }) => {
      const answer = answers[`${mode} ${new URL(url).origin}`]
      if (!answer) throw new TypeError('Failed to fetch')
      return answer()
    }
    page.roomwire.connect()
    await world.settle()
    world.socket.end(1006)
    await world.settle()
    return page
  }
  const http = { url: 'http://hub.example' }

  test.each<[string, Answers, Partial<RoomwireOptions>, string | undefined, string, string]>([
    ['is not there', {}, {}, undefined, 'unreachable', 'nothing answers at https://hub.example'],
    [
      'does not allow the origin of the page',
      { 'no-cors https://hub.example': () => new Response('') },
      {},
      undefined,
      'origin_not_allowed',
      'the hub at https://hub.example does not allow the origin https://app.example',
    ],
    [
      'is asked by a page that was opened from a file',
      { 'no-cors https://hub.example': () => new Response('') },
      {},
      'null',
      'origin_not_allowed',
      'a page without an origin',
    ],
    [
      'speaks http, where the address says https',
      { 'cors http://hub.example': problem(400), 'no-cors http://hub.example': () => new Response('') },
      {},
      'http://app.example',
      'wrong_scheme',
      'the hub answers at http://hub.example, not at https://hub.example',
    ],
    [
      'speaks http, where the address says https, and does not allow the origin either',
      { 'no-cors http://hub.example': () => new Response('') },
      {},
      'http://app.example',
      'wrong_scheme',
      'http://hub.example',
    ],
    [
      'speaks https, where the address says http',
      { 'no-cors http://hub.example': () => new Response(''), 'cors https://hub.example': problem(426) },
      http,
      'http://app.example',
      'wrong_scheme',
      'the hub answers at https://hub.example, not at http://hub.example',
    ],
    [
      'redirects http to https',
      { 'cors http://hub.example': redirected('https://hub.example/api/ws') },
      http,
      'http://app.example',
      'wrong_scheme',
      'the hub answers at https://hub.example',
    ],
    [
      'is reached over http by a page over https',
      {},
      http,
      undefined,
      'wrong_scheme',
      'a page over https cannot connect to http://hub.example',
    ],
    [
      'is another server',
      { 'cors https://hub.example': html },
      {},
      undefined,
      'not_a_hub',
      'not a Roomwire hub',
    ],
    [
      'is asked at a path that it does not have',
      { 'cors https://hub.example': problem(404) },
      { url: 'https://hub.example/api' },
      undefined,
      'not_a_hub',
      'no WebSocket at https://hub.example/api/api/ws',
    ],
    [
      'is down behind its proxy',
      { 'cors https://hub.example': () => new Response('', { status: 502 }) },
      {},
      undefined,
      'unreachable',
      'a proxy answers at https://hub.example with status 502',
    ],
  ])(
    'that %s is distinguished, and the developer is warned once',
    async (_, answers, options, origin, failure, words) => {
      const page = await unreachable(answers, options, origin)
      expect(page.connection().state).toBe('waiting')
      expect(reasonOf(page)).toMatchObject({ code: 1006, failure })
      expect(reasonOf(page).text).toContain(words)
      expect(reasonOf(page).hint).toMatch(/^[A-Z].*\.$/)
      const { world } = page
      for (let i = 0; i < 5; i++) {
        await world.pass(15_000)
        world.socket.end(1006)
        await world.settle()
        expect(reasonOf(page)).toMatchObject({ failure })
      }
      expect(world.warnings).toHaveLength(1)
      expect(world.warnings[0]).toContain(words)
      const problem = await refused(page.roomwire.endRoom('5'))
      expect(problem).toMatchObject({ code: 'NETWORK', status: 0, failure, retriable: true })
      expect(world.warnings).toHaveLength(1)
    },
  )

  test('that answers requests and no WebSockets, twice, is behind a proxy that does not pass them on', async () => {
    const page = await unreachable({ 'cors https://hub.example': problem(426) })
    // It may have started in this very moment.
    expect(reasonOf(page)).toMatchObject({ failure: 'unreachable', hint: null })
    expect(page.world.warnings).toEqual([])
    await page.world.pass(1_000)
    page.world.socket.end(1006)
    await page.world.settle()
    expect(reasonOf(page)).toMatchObject({ failure: 'websocket_blocked' })
    expect(reasonOf(page).hint).toContain('Upgrade')
    expect(page.world.warnings).toHaveLength(1)
  })

  test('that is full or draining is only waited for', async () => {
    const page = await unreachable({ 'cors https://hub.example': problem(503) })
    expect(reasonOf(page)).toMatchObject({ failure: 'unavailable', hint: null })
    expect(page.world.warnings).toEqual([])
  })

  test('that is another WebSocket server, which opens and never welcomes, is distinguished too', async () => {
    const page = start()
    page.world.answer = async () => html()
    page.roomwire.connect()
    await page.world.settle()
    page.world.socket.open()
    await page.world.pass(15_000)
    expect(reasonOf(page)).toMatchObject({ code: 1006, failure: 'not_a_hub' })
    expect(page.world.warnings).toHaveLength(1)
  })

  test('that a command cannot reach is diagnosed without a connection too', async () => {
    const page = start()
    page.world.answer = async (_, { mode }) => {
      if (mode !== 'no-cors') throw new TypeError('Failed to fetch')
      return new Response('')
    }
    const problem = await refused(page.roomwire.createRoom())
    expect(problem).toMatchObject({ code: 'NETWORK', failure: 'origin_not_allowed' })
    expect((problem as Error).message).toContain('does not allow the origin https://app.example')
    expect((problem as Error).cause).toBeInstanceOf(TypeError)
  })

  test('that is dead is not asked more often than once in 10 s, and not at all after auth.ok', async () => {
    const page = await unreachable({})
    const { world } = page
    world.random = 0
    for (let i = 0; i < 50; i++) {
      await world.pass(100)
      world.socket.end(1006)
      await world.settle()
    }
    // Three ways for the address, two of them for both schemes.
    expect(world.requests.length).toBeLessThanOrEqual(4)
    world.wake()
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome())
    world.requests = []
    for (let i = 0; i < 3; i++) {
      world.socket.end(1006)
      expect(reasonOf(page).hint).toBeNull()
      await world.pass(20_000)
    }
    expect(world.requests).toEqual([])
  })

  test('that is asked gets no token, no cookie and no cache', async () => {
    const { world } = await unreachable({})
    expect(world.requests.length).toBeGreaterThan(0)
    for (const { url, init } of world.requests) {
      expect(url).toMatch(/^https?:\/\/hub\.example\/api\/ws$/)
      expect(init).toMatchObject({ credentials: 'omit', cache: 'no-store' })
      expect(init.headers).toBeUndefined()
    }
  })

  test('that never answers a question holds up neither the page nor its end', async () => {
    const page = start()
    const { world } = page
    world.answer = () => new Promise(() => {})
    page.roomwire.connect()
    await world.settle()
    world.socket.end(1006)
    await world.pass(11_000)
    world.socket.end(1006)
    expect(reasonOf(page)).toMatchObject({ failure: 'unreachable' })
    page.roomwire.close()
    await world.settle()
    expect(world.timersLeft).toBe(0)
  })

  test('that was found and is lost is a lost connection: no mistake, and nobody is warned', async () => {
    const page = await connected()
    page.world.socket.end(1006)
    expect(reasonOf(page)).toMatchObject({ failure: 'connection_lost', hint: null })
    expect(page.world.warnings).toEqual([])
  })

  test('whose address the browser refuses is distinguished from a dead one', async () => {
    for (const [origin, url, failure] of [
      ['https://app.example', 'https://hub.example', 'blocked_by_page'],
      ['https://app.example', 'http://hub.example', 'wrong_scheme'],
    ] as const) {
      const world = Object.assign(new World(), { pageOrigin: origin })
      const openWebSocket = () => {
        throw new DOMException('not allowed', 'SecurityError')
      }
      const page = start({ url, environment: { ...world.environment, openWebSocket } })
      page.roomwire.connect()
      await world.settle()
      expect(page.connection().state).toBe('closed')
      expect(reasonOf(page)).toMatchObject({ code: null, failure })
      expect(world.warnings).toHaveLength(1)
    }
  })
})
