/** The SDK against the same examples that the hub's own tests read. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { adviceOf, waitAfter, wordsOf } from '../src/close-codes.js'
import { readFrame } from '../src/frames.js'
import { createRoomwire, RoomwireProblem } from '../src/index.js'
import { CLOSE_ADVICE, type Problem } from '../src/wire/index.js'
import { snapshot, subscribed, World, welcome } from './world.js'

function fixture<Value>(name: string): Value {
  return JSON.parse(readFileSync(new URL(`../../../proto/fixtures/${name}.json`, import.meta.url), 'utf8'))
}

describe('close codes', () => {
  const table = fixture<{ code: number; advice: string }[]>('close-codes')

  test('are the same here and there', () => {
    const there = Object.fromEntries(table.map(({ code, advice }) => [code, advice]))
    expect(there).toMatchObject(CLOSE_ADVICE)
  })

  test.each(table)('$code: $advice', ({ code, advice }) => {
    expect(adviceOf(code)).toBe(advice)
    // A code of the table has words of its own; any other is the network's.
    expect(wordsOf(code) === wordsOf(1006)).toBe(!(code in CLOSE_ADVICE))
    const wait = (reconnectAfterMs?: number, retryAfterMs?: number) =>
      waitAfter(code, { reconnectAfterMs, retryAfterMs }, 300)
    const expected = {
      stayAway: [null, null, null],
      comeBack: [300, 300, 300],
      comeBackWithNewToken: [300, 300, 300],
      comeBackAfterNotice: [300, 2_000, 300],
      comeBackAfterError: [300, 300, 5_000],
    }[advice]
    expect([wait(), wait(2_000), wait(undefined, 5_000)]).toEqual(expected)
  })

  test('no hint keeps a page away for ever, and none makes it hammer', () => {
    expect(waitAfter(1012, { reconnectAfterMs: 1e12, retryAfterMs: undefined }, 300)).toBe(600_000)
    expect(waitAfter(4429, { reconnectAfterMs: undefined, retryAfterMs: 0 }, 300)).toBe(300)
  })
})

describe("the hub's frames", () => {
  const frames = fixture<{ name: string; frame: { type: string; event?: string } }[]>('server-frames')

  test.each(frames)('are understood: $name', ({ frame }) => {
    const read = readFrame(JSON.stringify(frame))
    expect(read).not.toBeNull()
    if (frame.type === 'event') {
      if (read?.kind !== 'change') throw new Error(`read as ${read?.kind}`)
      expect(read.change.kind).not.toBe('other')
    } else if (frame.type === 'error') expect(read?.kind).toBe('error')
    else expect(read?.kind).toBe(frame.event)
  })

  test.each(frames)('are understood with fields of a later version: $name', ({ frame }) => {
    const later = JSON.parse(JSON.stringify(frame), (_, value) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? { ...value, later: { a: [1] } }
        : value,
    )
    expect(readFrame(JSON.stringify(later))).toEqual(readFrame(JSON.stringify(frame)))
  })
})

test("the client's frames are those that the hub's tests take", async () => {
  const { good } = fixture<{ good: { name: string; frame: Record<string, unknown> }[] }>('client-frames')
  const world = new World()
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => 'eyJ',
    guilds: ['1'],
    rooms: ['2'],
    environment: world.environment,
    timeouts: { quietMs: 3_545_000, pongMs: 60_000 },
  })
  const pos = 'Zm9yd2FyZC1vbmx5LW9wYXF1ZS1wb3NpdGlvbi0wMDE'
  const connect = async () => {
    await world.settle()
    world.socket.open()
    world.socket.receive(welcome({ guilds: ['1'], guildId: '1' }))
    world.socket.receive(subscribed({ guildId: '1' }))
    world.socket.receive(snapshot([], { guildId: '1', pos }))
  }
  roomwire.connect()
  await connect()
  world.socket.end(1006)
  await world.pass(500)
  await connect()
  await world.pass(3_545_000)
  roomwire.subscribe('1', ['2'])
  world.socket.receive(subscribed({ guildId: '1', re: world.socket.lastSent('subscribe')?.id }))
  world.socket.receive(snapshot([], { guildId: '1', pos }))
  world.socket.end(1006)
  await world.pass(500)
  await connect()
  roomwire.unsubscribe('1')
  const plain = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => 'eyJ',
    environment: world.environment,
  })
  plain.connect()
  await world.settle()
  world.socket.open()

  const sent = world.sockets.flatMap(socket => socket.sent).map(({ id: _, ...frame }) => frame)
  for (const { frame } of good) expect(sent).toContainEqual(frame)
  const types = new Set(good.map(({ frame }) => frame.type))
  expect(sent.filter(frame => !types.has(frame.type))).toEqual([])
})

test.each(fixture<Problem[]>('problems'))('a problem is what the hub says: $code', async problem => {
  const world = new World()
  world.answer = async () =>
    new Response(JSON.stringify(problem), {
      status: problem.status,
      headers: { 'content-type': 'application/problem+json' },
    })
  const roomwire = createRoomwire({
    url: 'https://hub.example',
    getToken: async () => 'eyJ',
    environment: world.environment,
  })
  const refused = await roomwire.endRoom('5').catch((error: unknown) => error)
  expect(refused).toBeInstanceOf(RoomwireProblem)
  expect(refused).toMatchObject({
    code: problem.code,
    status: problem.status,
    title: problem.title,
    message: problem.detail,
    requestId: problem.requestId,
    errors: problem.errors ?? [],
    retryAfterMs: problem.retryAfterMs ?? null,
    retriable: ['IN_PROGRESS', 'DISCORD_UNAVAILABLE'].includes(problem.code),
  })
})
