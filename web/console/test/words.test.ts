import { type Member, RoomwireProblem } from '@roomwire/sdk'
import { describe, expect, test } from 'vitest'
import { initialsOf } from '../src/avatar.js'
import { wordsOfMs } from '../src/clock.js'
import { marksOf } from '../src/member-row.js'
import { wordsOfOccupancy } from '../src/occupancy.js'
import { wordsOfProblem } from '../src/problem-words.js'
import { readClaims, rightsOf } from '../src/rights.js'
import { wordsOfConnection, wordsOfGateway } from '../src/status.js'

test.each([
  ['Ada Lovelace', 'AL'],
  ['ninja_turtle', 'NT'],
  ['zoë', 'Z'],
  ['рыба', 'Р'],
  ['  ', ''],
  ['🦀 crab', 'C'],
  ['200000000000000001', '2'],
  ['A B C D', 'AD'],
])('the initials of %j are %j', (name, initials) => {
  expect(initialsOf(name)).toBe(initials)
})

test.each([
  [-5, '0 s'],
  [1_400, '1 s'],
  [59_400, '59 s'],
  [150_000, '3 min'],
  [7_200_000, '2 h'],
])('%i ms are %j', (ms, words) => {
  expect(wordsOfMs(ms)).toBe(words)
})

test.each([
  [0, 0, 'empty'],
  [3, 0, '3 here'],
  [0, 4, '0 of 4'],
  [4, 4, '4 of 4, full'],
  [5, 4, '5 of 4, full'],
])('%i in a room of %i: %j', (here, limit, words) => {
  expect(wordsOfOccupancy(here, limit)).toBe(words)
})

describe('rights', () => {
  test.each([
    ['', true, true, false],
    ['openid profile', true, true, false],
    ['rooms:read', false, false, false],
    ['openid rooms:read rooms:create', true, false, false],
    ['rooms:read rooms:end', false, true, false],
    ['rooms:manage', false, true, true],
  ])('%j', (scope, create, endOwn, endAny) => {
    expect(rightsOf(scope)).toEqual({ create, endOwn, endAny })
  })

  test('the claims of a token are read, and of what is no token are not', () => {
    const body = (claims: unknown) => Buffer.from(JSON.stringify(claims)).toString('base64url')
    expect(readClaims(`x.${body({ sub: 'zoë', scope: 'rooms:read' })}.x`)).toEqual({
      sub: 'zoë',
      scope: 'rooms:read',
    })
    expect(readClaims(`x.${body({ sub: 7 })}.x`)).toEqual({ sub: '', scope: '' })
    for (const odd of ['', 'x', 'x.y.z', `x.${body(null)}.x`, `x.${body(1)}.x`])
      expect(readClaims(odd)).toBeNull()
  })
})

describe('marks', () => {
  const plain: Member = {
    userId: '1',
    displayName: 'Ada',
    avatarUrl: null,
    mute: false,
    deaf: false,
    selfMute: false,
    selfDeaf: false,
    selfVideo: false,
    selfStream: false,
    suppress: false,
  }
  const names = (over: Partial<Member>) => marksOf({ ...plain, ...over }).map(mark => mark.name)

  test('there is one for each flag', () => {
    expect(names({})).toEqual([])
    for (const [flag, name] of [
      ['mute', 'mute'],
      ['deaf', 'deaf'],
      ['selfMute', 'self-mute'],
      ['selfDeaf', 'self-deaf'],
      ['selfVideo', 'video'],
      ['selfStream', 'stream'],
      ['suppress', 'suppress'],
    ]) {
      expect(names({ [String(flag)]: true })).toEqual([name])
    }
  })

  test("a moderator's hides one's own", () => {
    expect(names({ mute: true, selfMute: true, deaf: true, selfDeaf: true })).toEqual(['mute', 'deaf'])
  })
})

test('a problem is told with its fields, its wait and its reference', () => {
  const problem = new RoomwireProblem({
    code: 'BAD_REQUEST',
    status: 400,
    title: 'The request is not of the documented form',
    detail: 'one field is wrong',
    requestId: 'a1',
    errors: [{ field: 'name', detail: '1 to 100 characters' }],
  })
  expect(wordsOfProblem(problem)).toEqual({
    title: 'That was not accepted',
    details: ['name: 1 to 100 characters'],
    reference: 'a1',
  })
  const busy = new RoomwireProblem({
    code: 'DISCORD_UNAVAILABLE',
    status: 503,
    title: 'Discord is not available right now',
    detail: 'Discord asks to wait',
    retryAfterMs: 1_500,
  })
  expect(wordsOfProblem(busy)).toEqual({
    title: 'Discord is not available right now',
    details: ['Discord asks to wait', 'Try again in 2 s.'],
    reference: null,
  })
})

test('the connection and the gateway are told in words', () => {
  const reason = { code: 1012, text: 'the hub is restarting' }
  expect(wordsOfConnection({ state: 'waiting', reason, nextAttemptAt: 5_000 }, 1_000)).toBe(
    'Reconnecting in 4 s',
  )
  expect(wordsOfConnection({ state: 'closed', reason: { code: 4403, text: 'not allowed' } }, 0)).toBe(
    'Closed: not allowed',
  )
  expect(wordsOfGateway({ state: 'down', since: 0, reason: null }, 90_000)).toBe('Discord down for 2 min')
  expect(wordsOfGateway({ state: 'live', since: 0, reason: null }, 90_000)).toBe('Discord live')
})
