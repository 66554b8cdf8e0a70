import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createAttemptsMax, createMsMax, retryAfter } from '../src/create-retry.js'
import { type Failure, newIdempotencyKey, RoomwireProblem } from '../src/index.js'
import { start } from './connections.js'
import { tokenOf, type World } from './world.js'

const failed = (code: string, more: object = {}) =>
  new RoomwireProblem({ code: code as 'INTERNAL', status: 500, ...more })
const network = (failure: Failure) =>
  new RoomwireProblem({ code: 'NETWORK', status: 0 }, undefined, { failure, text: failure, hint: failure })

describe('the decision to retry', () => {
  test.each([
    { problem: failed('NETWORK'), wait: 250 },
    { problem: failed('IN_PROGRESS', { retryAfterMs: 1_000 }), wait: 1_250 },
    { problem: failed('UNAVAILABLE'), wait: 250 },
    { problem: failed('DISCORD_UNAVAILABLE', { retryAfterMs: 1_500 }), wait: 1_750 },
    { problem: failed('INTERNAL'), wait: 250 },
    { problem: failed('RATE_LIMITED', { retryAfterMs: 1_000 }), wait: null },
    { problem: failed('CONFLICT'), wait: null },
    { problem: failed('UNPROCESSABLE'), wait: null },
    { problem: failed('BAD_REQUEST'), wait: null },
    { problem: failed('UNAUTHORIZED'), wait: null },
    { problem: failed('FORBIDDEN'), wait: null },
    { problem: failed('DISCORD_FORBIDDEN'), wait: null },
    { problem: failed('OF_A_NEWER_HUB'), wait: null },
    { problem: network('unreachable'), wait: 250 },
    { problem: network('not_a_hub'), wait: null },
    { problem: network('wrong_scheme'), wait: null },
    { problem: network('origin_not_allowed'), wait: null },
    { problem: network('blocked_by_page'), wait: null },
  ])('waits $wait ms after $problem.code $problem.failure', ({ problem, wait }) => {
    expect(retryAfter({ attempt: 0, elapsedMs: 0, problem }, 15_000, 0.5)).toBe(wait)
  })

  test('doubles the waits up to 5 s', () => {
    const waits = [0, 1, 2, 3, 4, 20].map(attempt =>
      retryAfter({ attempt, elapsedMs: 0, problem: failed('NETWORK') }, 15_000, 0.5),
    )
    expect(waits).toEqual([250, 500, 1_000, 2_000, 2_500, 2_500])
  })

  test('gives up where the wait and the next attempt may not end in time', () => {
    const at = (elapsedMs: number, retryAfterMs = 0) =>
      retryAfter({ attempt: 0, elapsedMs, problem: failed('IN_PROGRESS', { retryAfterMs }) }, 15_000, 0)
    expect([at(45_000), at(45_001), at(0, 45_000), at(0, 45_001), at(0, 300_000)]).toEqual([
      0,
      null,
      45_000,
      null,
      null,
    ])
  })

  test('is bounded by attempts too, also if the clock is set back', () => {
    const at = (attempt: number) =>
      retryAfter({ attempt, elapsedMs: -3_600_000, problem: failed('NETWORK') }, 15_000, 0)
    expect([at(createAttemptsMax - 2), at(createAttemptsMax - 1)]).toEqual([0, null])
  })

  test('never waits less than the hub asks for, nor beyond the time limit', () => {
    fc.assert(
      fc.property(
        fc.nat(40),
        fc.integer({ min: -1e6, max: 1e5 }),
        fc.nat(1e5),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (attempt, elapsedMs, retryAfterMs, random) => {
          const problem = failed('IN_PROGRESS', { retryAfterMs })
          const wait = retryAfter({ attempt, elapsedMs, problem }, 15_000, random)
          if (wait === null) return
          expect(wait).toBeGreaterThanOrEqual(retryAfterMs)
          expect(elapsedMs + wait + 15_000).toBeLessThanOrEqual(createMsMax)
        },
      ),
    )
  })
})

const made = { channelId: '5', name: 'Talk', guildId: '1', userLimit: 4 }
const created = () => new Response(JSON.stringify(made), { status: 201 })
const refusal = (code: string, status: number, more: object = {}) =>
  new Response(JSON.stringify({ code, title: code, detail: code, requestId: 'r', ...more }), { status })

/** Answers creations in this order; every other request, such as a diagnosis, fails. */
function page(answers: (() => Response | Promise<Response>)[], getToken = async () => tokenOf('ada')) {
  const { world, roomwire } = start({ getToken })
  world.answer = async url => {
    const next = url.endsWith('/api/create-room') ? answers.shift() : undefined
    if (!next) throw new TypeError('Failed to fetch')
    return next()
  }
  return { world, roomwire }
}

const sent = (world: World) =>
  world.requests
    .filter(({ url }) => url.endsWith('/api/create-room'))
    .map(({ init }) => ({ body: init.body, headers: init.headers as Record<string, string> }))
const keysOf = (world: World) => sent(world).map(({ headers }) => headers['idempotency-key'])
const outcome = (creating: Promise<unknown>) => creating.catch((error: unknown) => error)

describe('a creation', () => {
  test('is sent again with the same key and body until it succeeds', async () => {
    const { world, roomwire } = page([
      () => Promise.reject(new TypeError('Failed to fetch')),
      () => refusal('IN_PROGRESS', 409, { retryAfterMs: 1_000 }),
      () => refusal('DISCORD_UNAVAILABLE', 503, { retryAfterMs: 500 }),
      () => new Response('<html>Bad Gateway</html>', { status: 502 }),
      created,
    ])
    const room = { name: 'Talk' }
    const creating = roomwire.createRoom(room)
    await world.settle()
    room.name = 'Changed meanwhile'
    await world.pass(10_000)
    expect(await creating).toEqual(made)
    expect(sent(world)).toHaveLength(5)
    expect(new Set(keysOf(world)).size).toBe(1)
    expect(new Set(sent(world).map(({ body }) => body))).toEqual(new Set(['{"name":"Talk"}']))
    expect(world.timersLeft).toBe(0)
  })

  test('waits as long as the hub asks for', async () => {
    const { world, roomwire } = page([() => refusal('IN_PROGRESS', 409, { retryAfterMs: 3_000 }), created])
    const creating = roomwire.createRoom()
    await world.settle()
    await world.pass(2_999)
    expect(sent(world)).toHaveLength(1)
    await world.pass(251)
    expect(await creating).toEqual(made)
  })

  test('has a fresh key for each call, or the key of the app', async () => {
    const { world, roomwire } = page([created, created, created])
    await roomwire.createRoom()
    await roomwire.createRoom()
    await roomwire.createRoom({}, { idempotencyKey: '!~form-7' })
    const keys = keysOf(world)
    expect(new Set(keys).size).toBe(3)
    expect(keys[2]).toBe('!~form-7')
  })

  test.each(['', 'a b', 'a\nb', 'é', 'x'.repeat(256), 7, null])('is not sent with the key %j', async key => {
    const { world, roomwire } = page([created])
    const refused = await outcome(roomwire.createRoom({}, { idempotencyKey: key as string }))
    expect(refused).toBeInstanceOf(TypeError)
    expect((refused as Error).message).toContain('1 to 255 visible ASCII characters')
    expect(world.requests).toEqual([])
  })

  test('ends with the last problem within a minute', async () => {
    const { world, roomwire } = page([])
    let ended: unknown = null
    void outcome(roomwire.createRoom()).then(problem => (ended = problem))
    await world.pass(createMsMax)
    expect(ended).toMatchObject({ code: 'NETWORK', retriable: true })
    expect(sent(world).length).toBeGreaterThan(10)
    expect(world.timersLeft).toBe(0)
  })

  test('that no hub answers ends within a minute too', async () => {
    const { world, roomwire } = page(Array.from({ length: 9 }, () => () => new Promise<Response>(() => {})))
    let ended: unknown = null
    void outcome(roomwire.createRoom()).then(problem => (ended = problem))
    await world.settle()
    await world.pass(createMsMax)
    expect(ended).toMatchObject({ code: 'NETWORK' })
    expect(sent(world)).toHaveLength(3)
    expect(new Set(keysOf(world)).size).toBe(1)
  })

  test.each([
    ['RATE_LIMITED', 429],
    ['UNPROCESSABLE', 422],
    ['FORBIDDEN', 403],
    ['DISCORD_FORBIDDEN', 502],
  ])('that ends with %s is not sent again', async (code, status) => {
    const { world, roomwire } = page([() => refusal(code, status, { retryAfterMs: 1_000 }), created])
    expect(await outcome(roomwire.createRoom())).toMatchObject({ code, retryAfterMs: 1_000 })
    expect(sent(world)).toHaveLength(1)
    expect(world.timersLeft).toBe(0)
  })

  test('ends at once with its signal, also during a wait', async () => {
    const { world, roomwire } = page([() => refusal('IN_PROGRESS', 409, { retryAfterMs: 10_000 }), created])
    const end = new AbortController()
    const creating = outcome(roomwire.createRoom({}, { signal: end.signal }))
    await world.settle()
    end.abort(new Error('mine'))
    expect(await creating).toMatchObject({ message: 'mine' })
    expect(world.timersLeft).toBe(0)
    await world.pass(60_000)
    expect(sent(world)).toHaveLength(1)
  })

  test('uses the newest token of the same person', async () => {
    let asked = 0
    const { world, roomwire } = page(
      [() => refusal('UNAVAILABLE', 503), () => refusal('UNAUTHORIZED', 401), created],
      async () => tokenOf('ada', { jti: `${++asked}` }),
    )
    const creating = roomwire.createRoom()
    await world.settle()
    await world.pass(1_000)
    expect(await creating).toEqual(made)
    expect(new Set(sent(world).map(({ headers }) => headers.authorization)).size).toBe(3)
    expect(new Set(keysOf(world)).size).toBe(1)
  })

  test.each([true, false])('is never sent for another person (sign-out: %s)', async signOut => {
    const app = { person: 'ada' }
    const { world, roomwire } = page([() => refusal('UNAVAILABLE', 503), created], async () =>
      tokenOf(app.person),
    )
    const creating = outcome(roomwire.createRoom())
    await world.settle()
    if (signOut) roomwire.close()
    app.person = 'grace'
    await world.pass(60_000)
    expect(await creating).toMatchObject({ code: 'UNAUTHORIZED', status: 0, retriable: false })
    expect(sent(world).map(({ headers }) => headers.authorization)).toEqual([`Bearer ${tokenOf('ada')}`])
  })
})

describe('a fresh key', () => {
  afterEach(() => void vi.unstubAllGlobals())

  const real = globalThis.crypto
  const getRandomValues = (bytes: Uint8Array<ArrayBuffer>) => real.getRandomValues(bytes)
  test.each([
    ['a secure context', { randomUUID: () => real.randomUUID(), getRandomValues }],
    ['a page over http', { getRandomValues }],
    ['a runtime without crypto', undefined],
  ])('is a valid key in %s, and another one each time', (_, crypto) => {
    vi.stubGlobal('crypto', crypto)
    const keys = Array.from({ length: 100 }, newIdempotencyKey)
    expect(new Set(keys).size).toBe(100)
    for (const key of keys) expect(key).toMatch(/^[\da-f-]{32,36}$/)
  })
})
