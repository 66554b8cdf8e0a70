import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { readFrame } from '../src/frames.js'
import {
  applyChange,
  awaitAnswer,
  begin,
  disconnect,
  framesToResetGaps,
  type GuildTrack,
  repairGap,
  snapshotPartsMax,
  unknownGuild,
} from '../src/guild.js'
import { event, gateway, guildId, room, snapshot, voice } from './world.js'

const now = 50_000

// Properties applyChange their time where the machine is busy with others.
vi.setConfig({ testTimeout: 60_000 })

/** Takes frames in, as they come from the wire. */
function after(track: GuildTrack | 'gap', ...frames: object[]): GuildTrack | 'gap' {
  return frames.reduce<GuildTrack | 'gap'>((before, each) => {
    const frame = readFrame(JSON.stringify(each))
    if (before === 'gap' || frame?.kind !== 'change') return before
    return applyChange(before, frame.change, frame.pos, frame.n, now)
  }, track)
}

function held(track: GuildTrack | 'gap'): GuildTrack {
  if (track === 'gap') throw new Error('a gap')
  return track
}

const live = (...rooms: object[]) => held(after(unknownGuild(guildId), snapshot(rooms)))

/** A part of a snapshot. */
const part = (at: number, of: number, ...rooms: object[]) =>
  snapshot(rooms, { n: 0, pos: 'q' }, { part: at, of })

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

  test('in parts starts again with its first part', () => {
    const first = part(1, 2, room('1'))
    expect(seating(after(live(), first, first, part(2, 2, room('2'))))).toEqual({ 1: [], 2: [] })
  })

  test('in parts keeps the position of what is shown until it is whole', () => {
    const before = live(room('9'))
    const halfway = held(after(before, part(1, 2, room('1'))))
    expect(halfway.pos).toBe('p1')
    expect(held(after(halfway, part(2, 2))).pos).toBe('q')
    // A client that reconnects in between continues from the old position.
    expect(disconnect(halfway, now)).toMatchObject({ pos: 'p1', partial: null })
    expect(after(disconnect(halfway, now), part(2, 2))).toBe('gap')
  })

  test('in parts makes what is shown stale from its first part to its last', () => {
    const halfway = held(after(live(room('9')), part(1, 2, room('1'))))
    expect(halfway.guild).toMatchObject({ following: 'awaited', stale: true, staleSince: now })
    expect(held(after(halfway, part(2, 2))).guild).toMatchObject({ stale: false, staleSince: null })
  })

  test('in parts does not replace a newer state of the gateway', () => {
    const track = held(after(live(), part(1, 3), gateway('down'), part(2, 3), part(3, 3)))
    expect(track.guild).toMatchObject({ following: 'live', stale: true, gateway: { state: 'down' } })
  })

  test.each([
    ['a part is missing', [part(1, 3), part(3, 3)]],
    ['the first part is missing', [part(2, 2)]],
    ['a part comes twice', [part(1, 3), part(2, 3), part(2, 3)]],
    ['parts of another snapshot come in between', [part(1, 3), part(3, 4)]],
    ['parts of another subscription come in between', [part(1, 3), { ...part(2, 3), n: 4 }]],
    ['the number of parts changes', [part(1, 3), part(2, 2)]],
    ['an event comes in between', [part(1, 2), event('room.created', { channelId: '3' }, { n: 1 })]],
    ['an event without a number comes in between', [part(1, 2), event('room.deleted', { channelId: '9' })]],
    ['an unknown event with a number comes in between', [part(1, 2), event('room.painted', {}, { n: 1 })]],
    ['there are more parts than any guild can fill', [part(1, snapshotPartsMax + 1)]],
  ])('in parts is a gap where %s', (_, frames) => {
    expect(after(live(room('9')), ...frames)).toBe('gap')
  })

  test('in parts does not mind what has no number and is not known', () => {
    const odd = event('room.painted', {})
    expect(seating(after(live(), part(1, 2, room('1')), odd, part(2, 2, room('2'))))).toEqual({
      1: [],
      2: [],
    })
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
  test('join, change and disconnect', () => {
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

  test('keep their names when a change has none', () => {
    const muted = event('voice.state_changed', { channelId: '1', userId: '7', mute: true }, { n: 1 })
    expect(
      held(after(live(room('1', [voice('1', '7', { selfDeaf: true })])), muted)).guild.rooms[0]?.members,
    ).toMatchObject([{ displayName: 'User 7', mute: true, selfDeaf: true }])
  })

  test('who join again have no mark that is absent', () => {
    const joined = event('voice.joined', { channelId: '1', userId: '7' }, { n: 1 })
    expect(
      held(after(live(room('1', [voice('1', '7', { selfDeaf: true })])), joined)).guild.rooms[0]?.members,
    ).toMatchObject([{ displayName: 'User 7', selfDeaf: false }])
  })

  test('who are repeated without a difference change nothing', () => {
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

describe('a subscription that begins', () => {
  const known = () => held(after(live(room('1', [voice('1', '7')])), event('x', {}, { n: 1, pos: 'p5' })))

  test('recovered, goes on at once from what was known, and is fresh when the gateway is known to be', () => {
    const track = begin(disconnect(known(), 40_000), true, 'p6', now)
    expect(track.guild).toMatchObject({ following: 'live', stale: true, staleSince: 40_000, gateway: null })
    expect(track.guild.rooms).toBe(track.guild.rooms)
    expect(track.pos).toBe('p6')
    expect(held(after(track, gateway('live'))).guild).toMatchObject({ stale: false, staleSince: null })
  })

  test('recovered while the gateway is not live, is as old as the gateway says', () => {
    const track = begin(disconnect(known(), 40_000), true, 'p6', now)
    const resuming = held(after(track, gateway('resuming', 2_000)))
    expect(resuming.guild).toMatchObject({ stale: true, staleSince: now - 2_000 })
    // The state changes, and what is shown has not become any newer.
    expect(held(after(resuming, gateway('rebuilding', 100))).guild).toMatchObject({
      staleSince: now - 2_000,
      gateway: { state: 'rebuilding', since: now - 100 },
    })
  })

  test.each([
    ['the first missed frame has number 1', 1, false],
    ['there is no frame 0', 0, true],
    ['a gap is seen before the first', 2, true],
  ])('recovered: %s', (_, n, gap) => {
    const track = begin(disconnect(known(), 40_000), true, 'p6', now)
    expect(after(track, event('voice.joined', voice('1', '8'), { n })) === 'gap').toBe(gap)
  })

  test('not recovered, keeps what was known with its own position until the snapshot is here', () => {
    const track = begin(disconnect(known(), 40_000), false, 'p9', now)
    expect(track).toMatchObject({
      pos: 'p5',
      guild: { following: 'awaited', stale: true, staleSince: 40_000 },
    })
    expect(held(after(track, gateway('live'))).guild).toMatchObject({ stale: true, staleSince: 40_000 })
    const whole = held(after(track, snapshot([room('2')], { pos: 'p9' })))
    expect(whole).toMatchObject({ pos: 'p9', guild: { stale: false, staleSince: null } })
    expect(seating(whole)).toEqual({ 2: [] })
  })
})

describe('what is stale', () => {
  test('is as old as the first of the reasons', () => {
    const down = held(after(live(), gateway('down', 3_000)))
    expect(down.guild.staleSince).toBe(now - 3_000)
    expect(disconnect(down, now).guild.staleSince).toBe(now - 3_000)
    expect(disconnect(live(), 44_000).guild.staleSince).toBe(44_000)
  })

  test('is no younger for a hub that started again and has not received of its worker', () => {
    const unreceived = gateway('down', 100, 'no_worker')
    const known = held(after(begin(disconnect(live(), 40_000), true, 'p6', now), unreceived))
    expect(known.guild).toMatchObject({ stale: true, staleSince: 40_000 })
    const reported = { gateway: { state: 'down', ageMs: 100, reason: 'no_worker' } }
    const fresh = begin(unknownGuild(guildId), false, undefined, now)
    const shown = held(after(fresh, snapshot([room('1')], {}, reported)))
    expect(shown.guild).toMatchObject({ loaded: true, stale: true, staleSince: null })
    expect(held(after(shown, gateway('resuming', 50))).guild.staleSince).toBeNull()
    expect(disconnect(shown, now).guild.staleSince).toBeNull()
  })

  test('has no age while nothing is known', () => {
    expect(disconnect(unknownGuild(guildId), now).guild).toMatchObject({ stale: true, staleSince: null })
  })
})

describe('a gap', () => {
  test('is repaired from the last position, then by a snapshot, then by a new connection', () => {
    const first = repairGap(live(), now)
    expect(first).toMatchObject({ by: 'recover', track: { pos: 'p1', guild: { following: 'awaited' } } })
    const second = repairGap(begin(first.track, true, 'p1', now), now)
    expect(second).toMatchObject({ by: 'snapshot', track: { pos: undefined } })
    const whole = held(after(second.track, snapshot()))
    expect(repairGap(whole, now)).toMatchObject({ by: 'connection', track: { pos: undefined } })
  })

  test('without a position is repaired by a snapshot', () => {
    expect(repairGap(unknownGuild(guildId), now).by).toBe('snapshot')
  })

  test('is forgiven after a stretch of good frames', () => {
    let track = begin(repairGap(live(), now).track, true, 'p1', now)
    for (let n = 1; n <= framesToResetGaps; n++)
      track = held(after(track, event('x', {}, { n, pos: `p${n}` })))
    expect(repairGap(track, now).by).toBe('recover')
  })
})

test('nothing is taken from a guild whose snapshot is awaited', () => {
  const waiting = awaitAnswer(live(room('1')), now)
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

test('no frame breaks a guild or reaches a prototype', () => {
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

test('after any loss, duplication or reordering, the rooms match their position', () => {
  const step = fc.constantFrom(
    ...([
      'happen',
      'happen',
      'send',
      'send',
      'send',
      'lose',
      'double',
      'swap',
      'cut',
      'down',
      'live',
    ] as const),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.boolean(), (steps, hubRecovers) => {
      /** Who is in room 1 after each thing that happened. */
      const truth: string[][] = [['7']]
      let queue: Record<string, unknown>[] = []
      let n = 0
      let state = 'live'
      let track = unknownGuild(guildId)

      function happen() {
        const before = truth.at(-1) ?? []
        const userId = ['7', '8', '9'][(truth.length * 7) % 3] ?? '7'
        const leaves = before.includes(userId)
        truth.push(leaves ? before.filter(each => each !== userId) : [...before, userId])
        queue.push(frameAt(truth.length - 1, ++n))
      }
      /** The frame of what happened last before `at`. */
      function frameAt(at: number, n: number) {
        const [before, now] = [truth[at - 1] ?? [], truth[at] ?? []]
        const joined = now.find(userId => !before.includes(userId))
        const left = before.find(userId => !now.includes(userId)) ?? ''
        const pos = `p${at}`
        return joined !== undefined
          ? event('voice.joined', voice('1', joined), { n, pos })
          : event('voice.left', voice('1', left), { n, pos })
      }
      function subscribe() {
        const from = track.pos === undefined ? -1 : Number(track.pos.slice(1))
        const head = truth.length - 1
        const recovered = hubRecovers && from >= 0
        track = begin(track, recovered, recovered ? track.pos : `p${head}`, now)
        if (recovered) {
          n = head - from
          const missed = Array.from({ length: n }, (_, at) => frameAt(from + 1 + at, at + 1))
          queue = [gateway(state), ...missed]
        } else {
          n = 0
          const members = truth[head]?.map(userId => voice('1', userId)) ?? []
          queue = [1, 2, 3].map(at =>
            snapshot(
              [room('1', members.slice(at - 1, at < 3 ? at : undefined))],
              { n: 0, pos: `p${head}` },
              { part: at, of: 3, gateway: { state, ageMs: 10 } },
            ),
          )
        }
      }
      function receive(frame: object | undefined) {
        const next = frame ? after(track, frame) : track
        if (next === 'gap') {
          track = repairGap(track, now).track
          subscribe()
        } else track = next
      }
      function check() {
        const { guild, pos } = track
        if (guild.loaded && pos !== undefined) {
          expect(seating(track)).toEqual({ 1: truth[Number(pos.slice(1))] })
        }
        if (!guild.stale) expect(guild).toMatchObject({ following: 'live', gateway: { state: 'live' } })
        expect(guild.staleSince !== null).toBe(guild.stale && guild.loaded)
      }

      subscribe()
      for (const each of steps) {
        // What has no number is not what is lost here.
        const faulty = queue[0]?.n !== undefined
        if (each === 'happen') happen()
        else if (each === 'send') receive(queue.shift())
        else if (each === 'lose' && faulty) queue.shift()
        else if (each === 'double' && faulty) receive(queue[0])
        else if (each === 'swap' && faulty)
          queue = [...queue.slice(1, 2), ...queue.slice(0, 1), ...queue.slice(2)]
        else if (each === 'cut') {
          track = disconnect(track, now)
          check()
          subscribe()
        } else if (each === 'down' || each === 'live') {
          state = each
          queue.push(gateway(state))
        }
        check()
      }
      // A while without faults: a gap shows when the next thing happens, and is repaired.
      happen()
      happen()
      queue.push(gateway('live'))
      for (let frames = 0; queue.length > 0; frames++) {
        expect(frames).toBeLessThan(500)
        receive(queue.shift())
        check()
      }
      if (state === 'live') expect(track.guild.stale).toBe(false)
      expect(seating(track)).toEqual({ 1: truth.at(-1) })
    }),
    { numRuns: 300 },
  )
})
