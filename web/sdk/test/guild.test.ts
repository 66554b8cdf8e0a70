import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readFrame } from '../src/frames.js'
import { follow, type GuildTrack, snapshotPartsMax, take, unknownGuild } from '../src/guild.js'
import { event, guildId, room, snapshot, voice } from './world.js'

const now = 50_000

/** Takes frames in, as they come from the wire. */
function after(track: GuildTrack | 'gap', ...frames: object[]): GuildTrack | 'gap' {
  return frames.reduce<GuildTrack | 'gap'>((before, each) => {
    const frame = readFrame(JSON.stringify(each))
    if (before === 'gap' || frame?.kind !== 'change') return before
    return take(before, frame.change, frame.pos, frame.n, now)
  }, track)
}

function held(track: GuildTrack | 'gap'): GuildTrack {
  if (track === 'gap') throw new Error('a gap')
  return track
}

const live = (...rooms: object[]) => held(after(follow(unknownGuild(guildId), 'awaited'), snapshot(rooms)))

/** Who is where, as `channel: users`. */
const seating = (track: GuildTrack | 'gap') =>
  Object.fromEntries(
    held(track).guild.rooms.map(each => [each.channelId, each.members.map(member => member.userId)]),
  )

describe('a snapshot', () => {
  test('replaces what was known', () => {
    const track = after(
      live(room('1', [voice('1', '7')]), room('2')),
      snapshot([room('2', [voice('2', '8')])]),
    )
    expect(seating(track)).toEqual({ 2: ['8'] })
  })

  test('makes a guild loaded, and fresh if the gateway is live', () => {
    expect(live().guild).toMatchObject({ loaded: true, stale: false, following: 'live' })
    const resuming = snapshot([], {}, { gateway: { state: 'resuming', ageMs: 2_000, reason: 'cut' } })
    expect(held(after(live(), resuming)).guild).toMatchObject({
      loaded: true,
      stale: true,
      gateway: { state: 'resuming', since: now - 2_000, reason: 'cut' },
    })
  })

  test('keeps the object of every room and member that is the same', () => {
    const before = live(room('1', [voice('1', '7'), voice('1', '8')]), room('2'))
    const next = held(
      after(before, snapshot([room('1', [voice('1', '7'), voice('1', '8', { selfMute: true })]), room('2')])),
    )
    expect(next.guild.rooms[0]).not.toBe(before.guild.rooms[0])
    expect(next.guild.rooms[0]?.members[0]).toBe(before.guild.rooms[0]?.members[0])
    expect(next.guild.rooms[1]).toBe(before.guild.rooms[1])
    expect(
      held(
        after(next, snapshot([room('1', [voice('1', '7'), voice('1', '8', { selfMute: true })]), room('2')])),
      ).guild,
    ).toBe(next.guild)
  })

  test('in parts is taken when it is whole', () => {
    const before = live(room('9'))
    const first = snapshot([room('1', [voice('1', '7')])], { n: 0 }, { part: 1, of: 3 })
    const second = snapshot([room('1', [voice('1', '8')])], { n: 0 }, { part: 2, of: 3 })
    const third = snapshot([room('2')], { n: 0 }, { part: 3, of: 3 })
    expect(seating(after(before, first, second))).toEqual({ 9: [] })
    expect(seating(after(before, first, second, third))).toEqual({ 1: ['7', '8'], 2: [] })
  })

  test('in parts begins anew with its first part', () => {
    const first = snapshot([room('1')], { n: 0 }, { part: 1, of: 2 })
    const second = snapshot([room('2')], { n: 0 }, { part: 2, of: 2 })
    expect(seating(after(live(), first, first, second))).toEqual({ 1: [], 2: [] })
  })

  test('of which a part is missing is a gap', () => {
    expect(after(live(), snapshot([], {}, { part: 1, of: 3 }), snapshot([], {}, { part: 3, of: 3 }))).toBe(
      'gap',
    )
    expect(after(live(), snapshot([], {}, { part: 2, of: 2 }))).toBe('gap')
  })

  test('in more parts than any guild can fill is not collected', () => {
    expect(after(live(), snapshot([], {}, { part: 1, of: snapshotPartsMax + 1 }))).toBe('gap')
  })
})

describe('rooms', () => {
  test('come, change and go', () => {
    const created = event(
      'room.created',
      { channelId: '3', name: 'New', userLimit: 2, parentId: '10' },
      { n: 1 },
    )
    const updated = event('room.updated', { channelId: '3', name: 'Newer', userLimit: 0 }, { n: 2 })
    const deleted = event('room.deleted', { channelId: '3', name: 'Newer', userLimit: 0 }, { n: 3 })
    expect(held(after(live(), created)).guild.rooms).toMatchObject([
      { channelId: '3', name: 'New', userLimit: 2, parentId: '10', members: [] },
    ])
    expect(held(after(live(), created, updated)).guild.rooms).toMatchObject([
      { channelId: '3', name: 'Newer', userLimit: 0, parentId: null },
    ])
    expect(held(after(live(), created, updated, deleted)).guild.rooms).toEqual([])
  })

  test('keep their members when they change', () => {
    const updated = event('room.updated', { channelId: '1', name: 'Other', userLimit: 0 }, { n: 1 })
    expect(seating(after(live(room('1', [voice('1', '7')])), updated))).toEqual({ 1: ['7'] })
  })

  test('without a name are called by their id', () => {
    const joined = event('voice.joined', { channelId: '5', userId: '7' }, { n: 1 })
    expect(held(after(live(), joined)).guild.rooms).toMatchObject([
      {
        channelId: '5',
        name: '5',
        members: [{ userId: '7', displayName: '7', avatarUrl: null, mute: false }],
      },
    ])
    expect(
      held(after(live(), event('room.created', { channelId: '6', name: '' }, { n: 1 }))).guild.rooms,
    ).toMatchObject([{ name: '6' }])
  })
})

describe('members', () => {
  test('join, change and leave', () => {
    const joined = event('voice.joined', voice('1', '7'), { n: 1 })
    const muted = event('voice.state_changed', voice('1', '7', { selfMute: true, selfVideo: true }), { n: 2 })
    const left = event('voice.left', voice('1', '7'), { n: 3 })
    expect(seating(after(live(room('1')), joined))).toEqual({ 1: ['7'] })
    expect(held(after(live(room('1')), joined, muted)).guild.rooms[0]?.members).toMatchObject([
      { userId: '7', selfMute: true, selfVideo: true, selfDeaf: false },
    ])
    expect(seating(after(live(room('1')), joined, muted, left))).toEqual({ 1: [] })
  })

  test('move by leaving and joining', () => {
    const left = event('voice.left', voice('1', '7', { movedTo: '2' }), { n: 1 })
    const joined = event('voice.joined', voice('2', '7', { movedFrom: '1' }), { n: 2 })
    const before = live(room('1', [voice('1', '7')]), room('2'))
    expect(seating(after(before, left))).toEqual({ 1: [], 2: [] })
    expect(seating(after(before, left, joined))).toEqual({ 1: [], 2: ['7'] })
  })

  test('are in one room only', () => {
    const joined = event('voice.joined', voice('2', '7'), { n: 1 })
    expect(seating(after(live(room('1', [voice('1', '7')]), room('2')), joined))).toEqual({ 1: [], 2: ['7'] })
  })

  test('who left another room than the one they are in stay', () => {
    const left = event('voice.left', voice('1', '7'), { n: 1 })
    expect(seating(after(live(room('1'), room('2', [voice('2', '7')])), left))).toEqual({ 1: [], 2: ['7'] })
  })

  test('keep their names when a change does not tell them', () => {
    const muted = event('voice.state_changed', { channelId: '1', userId: '7', mute: true }, { n: 1 })
    expect(
      held(after(live(room('1', [voice('1', '7', { selfDeaf: true })])), muted)).guild.rooms[0]?.members,
    ).toMatchObject([{ displayName: 'User 7', mute: true, selfDeaf: true }])
  })

  test('who come in anew have no mark that is not told', () => {
    const joined = event('voice.joined', { channelId: '1', userId: '7' }, { n: 1 })
    expect(
      held(after(live(room('1', [voice('1', '7', { selfDeaf: true })])), joined)).guild.rooms[0]?.members,
    ).toMatchObject([{ displayName: 'User 7', selfDeaf: false }])
  })

  test('who are told again as they are change nothing', () => {
    const before = live(room('1', [voice('1', '7')]))
    expect(held(after(before, event('voice.state_changed', voice('1', '7'), { n: 1 }))).guild).toBe(
      before.guild,
    )
  })
})

describe('numbers', () => {
  test('that skip are a gap', () => {
    expect(after(live(room('1')), event('voice.joined', voice('1', '7'), { n: 2 }))).toBe('gap')
  })

  test('that a hub does not give are not missed', () => {
    expect(seating(after(live(room('1')), event('voice.joined', voice('1', '7'))))).toEqual({ 1: ['7'] })
  })

  test('are not counted by the state of the gateway', () => {
    const state = event('gateway.state', { state: 'down', ageMs: 0 })
    const joined = event('voice.joined', voice('1', '7'), { n: 1 })
    expect(seating(after(live(room('1')), state, joined))).toEqual({ 1: ['7'] })
  })

  test('count on over what is not known or not legible', () => {
    const odd = event('voice.joined', { channelId: 4, userId: null }, { n: 1, pos: 'p9' })
    const track = held(after(live(room('1')), odd))
    expect(track).toMatchObject({ n: 1, pos: 'p9' })
  })
})

describe('the gateway', () => {
  test('makes a guild stale while it is not live', () => {
    for (const state of ['resuming', 'rebuilding', 'down']) {
      const track = held(after(live(), event('gateway.state', { state, ageMs: 100 })))
      expect(track.guild).toMatchObject({ stale: true, gateway: { state, since: now - 100 } })
      expect(held(after(track, event('gateway.state', { state: 'live', ageMs: 0 }))).guild.stale).toBe(false)
    }
  })

  test('in a state that is not known stays as it was', () => {
    const before = live()
    expect(held(after(before, event('gateway.state', { state: 'dreaming', ageMs: 0 }))).guild).toBe(
      before.guild,
    )
  })
})

test('nothing is taken from a guild whose snapshot is awaited', () => {
  const waiting = follow(live(room('1')), 'awaited')
  expect(held(after(waiting, event('voice.joined', voice('1', '7'), { n: 1 }))).guild).toBe(waiting.guild)
})

test('however members come, move and go, each is where they went last, and only there', () => {
  const step = fc.record({
    userId: fc.constantFrom('7', '8', '9', '__proto__'),
    channelId: fc.constantFrom('1', '2', '3', 'constructor', null),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const truth = new Map<string, string>()
      let n = 0
      let track = live(room('1'), room('2'))
      for (const { userId, channelId } of steps) {
        const from = truth.get(userId)
        if (from !== undefined) {
          track = held(after(track, event('voice.left', voice(from, userId), { n: ++n })))
          truth.delete(userId)
        }
        if (channelId !== null) {
          track = held(after(track, event('voice.joined', voice(channelId, userId), { n: ++n })))
          truth.set(userId, channelId)
        }
      }
      const seen = track.guild.rooms.flatMap(each =>
        each.members.map(member => [member.userId, each.channelId]),
      )
      expect(seen.sort()).toEqual([...truth].sort())
    }),
    { numRuns: 200 },
  )
})

test('no frame, however odd, breaks a guild or reaches a prototype', () => {
  const before = live(room('1', [voice('1', '7')]))
  const names = fc.constantFrom(
    'guild.snapshot',
    'room.updated',
    'voice.joined',
    'voice.left',
    'gateway.state',
    'x',
  )
  fc.assert(
    fc.property(names, fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (name, payload, rooms, extra) => {
      const frames = [
        { type: 'event', event: name, guildId, payload },
        {
          type: 'event',
          event: name,
          guildId,
          payload: { channelId: '1', userId: '7', rooms, member: extra, state: extra },
        },
        {
          type: 'event',
          event: name,
          guildId,
          payload: { channelId: '1', rooms: [{ channelId: '2', members: rooms }] },
        },
      ]
      const track = after(before, ...frames)
      if (track === 'gap') return
      for (const each of track.guild.rooms) {
        expect(typeof each.name).toBe('string')
        for (const member of each.members) expect(typeof member.displayName).toBe('string')
      }
      expect(Object.keys(Object.prototype)).toEqual([])
    }),
    { numRuns: 300 },
  )
})
