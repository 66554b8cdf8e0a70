import fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaultBackoff, fullJitter } from '../src/backoff.js'

test('the ceiling doubles with each attempt, up to the cap', () => {
  const ceilings = [0, 1, 2, 3, 4, 5, 6, 7, 100, 5_000].map(attempt => fullJitter(defaultBackoff, attempt, 1))
  expect(ceilings).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000, 15_000])
})

test('a wait is a whole number between zero and the ceiling, for any random number', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60_000 }),
      fc.integer({ min: 60_000, max: 600_000 }),
      fc.nat({ max: 10_000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (baseMs, capMs, attempt, random) => {
        const wait = fullJitter({ baseMs, capMs }, attempt, random)
        expect(Number.isInteger(wait)).toBe(true)
        expect(wait).toBeGreaterThanOrEqual(0)
        expect(wait).toBeLessThanOrEqual(Math.min(capMs, baseMs * 2 ** attempt))
      },
    ),
  )
})

test('the random number alone decides within the ceiling', () => {
  expect(fullJitter(defaultBackoff, 3, 0)).toBe(0)
  expect(fullJitter(defaultBackoff, 3, 0.25)).toBe(1_000)
  expect(fullJitter(defaultBackoff, 3, 0.5)).toBe(2_000)
})
