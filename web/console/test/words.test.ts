import { type Guild, type Member, RoomwireProblem } from '@roomwire/sdk'
import { describe, expect, test } from 'vitest'
import { initialsOf } from '../src/avatar.js'
import { wordsOfAgo, wordsOfMs, wordsOfTime } from '../src/clock.js'
import { leastHealthyOf } from '../src/guild-health.js'
import { marksOf } from '../src/member-row.js'
import { wordsOfOccupancy } from '../src/occupancy.js'
import { wordsOfProblem } from '../src/problem-words.js'
import { readClaims, rightsOf } from '../src/rights.js'
import { wordsOfGatewayReason } from '../src/stale-note.js'
import { wordsOfConnection, wordsOfEnd, wordsOfGateway } from '../src/status.js'

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
  [-5, 'a moment ago'],
  [4_999, 'a moment ago'],
  [59_999, '59 seconds ago'],
  [119_999, 'a minute ago'],
  [250_000, '4 minutes ago'],
  [7_199_999, 'an hour ago'],
  [47 * 3_600_000, '47 hours ago'],
  [49 * 3_600_000, '2 days ago'],
])('%i ms back is %j', (ms, words) => {
  expect(wordsOfAgo(ms)).toBe(words)
})

test('a time is shown with its day, unless that is today', () => {
  const noon = new Date(2026, 4, 17, 12, 31).getTime()
  expect(wordsOfTime(noon, noon + 3_600_000)).toMatch(/^12.31\D*$/)
  expect(wordsOfTime(noon, noon + 86_400_000)).toMatch(/17.*12.31|12.31.*17/)
})

test.each(
  (
    'no_worker worker_silent starting guild_awaited connecting connection_closed reconnect_asked session_invalid ' +
    'gateway_silent session_lost gateway_refusing gateway_unreachable illegible catching_up not_told identify_budget outage removed ' +
    'worker_stopping discord_refused store_failing not_followed connection_cut worker_was_stopped refused too_large'
  ).split(' '),
)('there are words for the reason %s', reason => {
  const words = wordsOfGatewayReason({ state: 'down', since: 0, reason })
  expect(words).toMatch(/^[A-Z].*\.$/)
  expect(words).not.toBe(wordsOfGatewayReason({ state: 'down', since: 0, reason: 'of a later version' }))
  expect(words).not.toContain('_')
})

test('of equally stale guilds, the one that is stale for longer is shown', () => {
  const guild = (guildId: string, staleSince: number): Guild => ({
    guildId,
    following: 'disconnected',
    loaded: true,
    stale: true,
    staleSince,
    gateway: null,
    rooms: [],
  })
  const guilds = [guild('1', 50), guild('2', 40), guild('3', 60)]
  expect(leastHealthyOf(new Map(guilds.map(each => [each.guildId, each])))?.guildId).toBe('2')
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
    expect(rightsOf(scope)).toEqual({ create, invite: create || endAny, endOwn, endAny })
  })

  test('claims are read from a token, and from nothing else', () => {
    const body = (claims: unknown) => Buffer.from(JSON.stringify(claims)).toString('base64url')
    const claims = { sub: 'zoë', scope: 'rooms:read', exp: 2, iss: 'https://i.example', aud: ['a', 'b'] }
    expect(readClaims(`x.${body(claims)}.x`)).toEqual({
      sub: 'zoë',
      scope: 'rooms:read',
      expiresAt: 2_000,
      issuer: 'https://i.example',
      audience: 'a, b',
    })
    const none = { sub: '', scope: '', expiresAt: null, issuer: '', audience: '' }
    expect(readClaims(`x.${body({ sub: 7, exp: '2', aud: 1 })}.x`)).toEqual(none)
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

  test('one mark exists for each flag', () => {
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

  test("a moderator's mark hides the member's own", () => {
    expect(names({ mute: true, selfMute: true, deaf: true, selfDeaf: true })).toEqual(['mute', 'deaf'])
  })
})

test('a problem is shown with its fields, its wait and its reference', () => {
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

test('why the page is not connected is a sentence', () => {
  const end = {
    code: 1006,
    failure: 'unreachable',
    text: 'nothing answers at https://h',
    hint: null,
  } as const
  expect(wordsOfEnd(end)).toBe('Nothing answers at https://h.')
  expect(wordsOfEnd({ ...end, cause: new Error('The issuer does not answer.') })).toBe(
    'The issuer does not answer.',
  )
})

test('the connection and the gateway are described in words', () => {
  const reason = { code: 1012, text: 'the hub is restarting', failure: 'unavailable', hint: null } as const
  const forbidden = { code: 4403, text: 'not allowed', failure: 'forbidden', hint: 'Ask.' } as const
  expect(wordsOfConnection({ state: 'waiting', reason, nextAttemptAt: 5_000 }, 1_000)).toBe(
    'Reconnecting in 4 s',
  )
  expect(wordsOfConnection({ state: 'closed', reason: forbidden }, 0)).toBe('Closed: not allowed')
  expect(wordsOfGateway({ state: 'down', since: 0, reason: null }, 90_000)).toBe('Discord cut off for 2 min')
  expect(wordsOfGateway({ state: 'down', since: 0, reason: 'no_worker' }, 90_000)).toBe(
    'Discord not heard of yet',
  )
  expect(wordsOfGateway({ state: 'live', since: 0, reason: null }, 90_000)).toBe('Discord live')
})
