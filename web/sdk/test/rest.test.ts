import { describe, expect, test } from 'vitest'
import { createRoomwire, RoomwireProblem } from '../src/index.js'
import { World, welcome } from './world.js'

function start(answers: (() => Promise<Response>)[]) {
  const world = new World()
  const wishes: string[] = []
  world.answer = () => {
    const next = answers.shift()
    return next ? next() : Promise.reject(new Error('asked too often'))
  }
  const roomwire = createRoomwire({
    url: 'https://hub.example/',
    getToken: async wish => {
      wishes.push(wish)
      return `t${wishes.length}`
    },
    environment: world.environment,
  })
  return { world, wishes, roomwire }
}

const json =
  (body: unknown, status = 200) =>
  async () =>
    new Response(JSON.stringify(body), { status })
const problem = async (refused: Promise<unknown>): Promise<RoomwireProblem> => {
  const error = await refused.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof RoomwireProblem)) throw new Error(`not a problem but ${String(error)}`)
  return error
}

describe('requests', () => {
  test('create a room', async () => {
    const made = { channelId: '5', name: 'Talk', guildId: '1', userLimit: 4 }
    const { world, roomwire } = start([json(made, 201)])
    expect(await roomwire.createRoom({ name: 'Talk', userLimit: 4 })).toEqual(made)
    const [request] = world.requests
    expect(request?.url).toBe('https://hub.example/api/create-room')
    expect(request?.init.method).toBe('POST')
    expect(request?.init.body).toBe('{"name":"Talk","userLimit":4}')
    expect(request?.init.headers).toEqual({
      'content-type': 'application/json',
      'idempotency-key': expect.stringMatching(/^[\da-f-]{36}$/),
      authorization: 'Bearer t1',
    })
  })

  test('end a room, whose id stays one step of the path', async () => {
    const { world, roomwire } = start([json({ ok: true }), json({ ok: true })])
    await roomwire.endRoom('5')
    await roomwire.endRoom('../rooms?x')
    expect(world.requests.map(request => `${request.init.method} ${request.url}`)).toEqual([
      'DELETE https://hub.example/api/end-room/5',
      'DELETE https://hub.example/api/end-room/..%2Frooms%3Fx',
    ])
  })

  test('list the rooms of a guild', async () => {
    const list = { guildId: '1', rooms: [], pos: 'p', gateway: { state: 'live', ageMs: 1 } }
    const { world, roomwire } = start([json(list), json(list)])
    expect(await roomwire.listRooms()).toEqual(list)
    await roomwire.listRooms('1&x=2')
    expect(world.requests.map(request => request.url)).toEqual([
      'https://hub.example/api/rooms',
      'https://hub.example/api/rooms?guildId=1%26x%3D2',
    ])
  })
})

describe('tokens', () => {
  test('that are refused are replaced once', async () => {
    const refusal = { code: 'UNAUTHORIZED', title: 'A valid token is needed', detail: 'no', requestId: 'r' }
    const { world, wishes, roomwire } = start([json(refusal, 401), json({ ok: true })])
    await roomwire.endRoom('5')
    expect(wishes).toEqual(['connect', 'refused'])
    expect(world.requests[1]?.init.headers).toMatchObject({ authorization: 'Bearer t2' })

    const twice = start([json(refusal, 401), json(refusal, 401)])
    expect(await problem(twice.roomwire.endRoom('5'))).toMatchObject({ code: 'UNAUTHORIZED', status: 401 })
    expect(twice.world.requests).toHaveLength(2)
  })

  test('that hold by word of the hub are used again, until shortly before their end', async () => {
    const { world, wishes, roomwire } = start([json({ ok: true }), json({ ok: true }), json({ ok: true })])
    roomwire.connect()
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome({ expiresAt: 1_000_000 + 120_000 }))
    await roomwire.endRoom('5')
    expect(wishes).toEqual(['connect'])
    // The connection is lost, and the hub's word still holds.
    world.socket.end(1006)
    world.now += 89_999
    await roomwire.endRoom('5')
    expect(wishes).toEqual(['connect'])
    world.now += 1
    await roomwire.endRoom('5')
    expect(wishes).toEqual(['connect', 'connect'])
  })
})

describe('failures', () => {
  test('of the network are a problem that may pass', async () => {
    const { roomwire } = start([() => Promise.reject(new TypeError('Failed to fetch'))])
    const refused = await problem(roomwire.endRoom('5'))
    expect(refused).toMatchObject({ code: 'NETWORK', status: 0, retriable: true })
    expect(refused.cause).toBeInstanceOf(TypeError)
  })

  test.each([
    [400, 'BAD_REQUEST'],
    [403, 'FORBIDDEN'],
    [404, 'NOT_FOUND'],
    [413, 'TOO_LARGE'],
    [418, 'BAD_REQUEST'],
    [429, 'RATE_LIMITED'],
    [500, 'INTERNAL'],
    [502, 'UNAVAILABLE'],
    [504, 'UNAVAILABLE'],
  ])('of something between, status %i, are %s', async (status, code) => {
    const { roomwire } = start([async () => new Response('<html>Bad</html>', { status })])
    expect(await problem(roomwire.endRoom('5'))).toMatchObject({ code, status })
  })

  test('of a hub that does not answer come after a while', async () => {
    const world = new World()
    const roomwire = createRoomwire({
      url: 'https://hub.example',
      getToken: async () => 't',
      environment: world.environment,
    })
    world.answer = (_, init) =>
      new Promise((_, reject) => init.signal?.addEventListener('abort', () => reject(new Error('aborted'))))
    const ending = problem(roomwire.endRoom('5'))
    await world.settle()
    await world.pass(15_000)
    expect(await ending).toMatchObject({ code: 'NETWORK' })
    expect(world.timersLeft).toBe(0)
  })

  test('in the middle of an answer come after a while too', async () => {
    const { world, roomwire } = start([async () => new Response(new ReadableStream(), { status: 200 })])
    const ending = problem(roomwire.endRoom('5'))
    await world.settle()
    await world.pass(15_000)
    expect(await ending).toMatchObject({ code: 'NETWORK', status: 0 })
  })

  test('of an app without a token are problems', async () => {
    const world = new World()
    const failure = new Error('signed out')
    const roomwire = createRoomwire({
      url: 'https://hub.example',
      getToken: () => Promise.reject(failure),
      environment: world.environment,
    })
    const refused = await problem(roomwire.endRoom('5'))
    expect(refused).toMatchObject({ code: 'UNAUTHORIZED', status: 0, retriable: false, cause: failure })
    expect(world.requests).toEqual([])
  })

  test('of an app that never answers for a token come after a while', async () => {
    const world = new World()
    const roomwire = createRoomwire({
      url: 'https://hub.example',
      getToken: () => new Promise(() => {}),
      environment: world.environment,
    })
    const ending = problem(roomwire.endRoom('5'))
    await world.settle()
    await world.pass(15_000)
    expect(await ending).toMatchObject({ status: 0 })
    expect(world.requests).toEqual([])
  })

  test.each(['<html>AuthOk to our network</html>', 'null', '[]', '{}'])(
    'of something that answers %j in the place of the hub are problems',
    async text => {
      const page = async () => new Response(text, { status: 200 })
      const { roomwire } = start([page, page, page])
      for (const refused of [roomwire.endRoom('5'), roomwire.createRoom(), roomwire.listRooms()]) {
        expect(await problem(refused)).toMatchObject({ code: 'NETWORK', retriable: true })
      }
    },
  )

  test('of another system than the hub do not carry its fields', async () => {
    const foreign = { code: 'E17', title: 7, detail: {}, errors: {}, requestId: [], retryAfterMs: 'soon' }
    const { roomwire } = start([json(foreign, 400), json({ code: 'E17', errors: [null, { field: 1 }] }, 400)])
    const refused = await problem(roomwire.endRoom('5'))
    expect(refused).toMatchObject({
      code: 'E17',
      title: 'E17',
      errors: [],
      requestId: null,
      retryAfterMs: null,
    })
    expect((await problem(roomwire.endRoom('5'))).errors).toEqual([])
  })

  test('that the page itself asked for are its own', async () => {
    const { world, roomwire } = start([])
    world.answer = (_, init) =>
      new Promise((_, reject) => init.signal?.addEventListener('abort', () => reject(new Error('aborted'))))
    const end = new AbortController()
    const ending = roomwire.endRoom('5', { signal: end.signal })
    await world.settle()
    end.abort(new Error('mine'))
    await expect(ending).rejects.toThrow('mine')
  })
})
