import { expect, test } from 'vitest'
import { type TokenWish, tokenSource } from '../src/token.js'
import { World } from './world.js'

function start(answer: (asked: number) => Promise<string> = async asked => `t${asked}`) {
  const world = new World()
  const wishes: TokenWish[] = []
  const tokens = tokenSource(wish => {
    wishes.push(wish)
    return answer(wishes.length)
  }, world.environment)
  return { world, wishes, tokens }
}

test('calls at the same time share one answer', async () => {
  const { tokens, wishes } = start()
  expect(await Promise.all([tokens.get('connect'), tokens.get('connect')])).toEqual(['t1', 't1'])
  expect(await tokens.get('connect')).toBe('t2')
  expect(wishes).toHaveLength(2)
})

test('a pending token does not answer a call for another one', async () => {
  const { tokens, wishes } = start()
  expect(await Promise.all([tokens.get('connect'), tokens.get('refused')])).toEqual(['t1', 't2'])
  expect(wishes).toEqual(['connect', 'refused'])
})

test('a token is cached until it expires or is refused', async () => {
  const { tokens } = start(async asked => {
    if (asked === 2) throw new Error('signed out')
    return `t${asked}`
  })
  tokens.onAccepted(await tokens.get('connect'), 600_000)
  expect(await tokens.get('connect')).toBe('t1')
  await expect(tokens.get('refused')).rejects.toThrow('signed out')
  expect(await tokens.get('connect')).toBe('t3')
})

test('a getToken that throws gives no token', async () => {
  const { tokens } = start(() => {
    throw new Error('no session')
  })
  await expect(tokens.get('connect')).rejects.toThrow('no session')
})

test('a getToken that does not answer is called again, and blocks nobody', async () => {
  const { tokens, world } = start(asked => (asked === 1 ? new Promise(() => {}) : Promise.resolve('late')))
  const first = tokens.get('connect').catch((error: Error) => error.message)
  await world.settle()
  await world.pass(15_000)
  expect(await first).toBe('getToken did not answer in time')
  expect(await tokens.get('connect')).toBe('late')
  expect(world.timersLeft).toBe(0)
})
