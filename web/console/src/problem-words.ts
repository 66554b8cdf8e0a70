import { RoomwireProblem } from '@roomwire/sdk'
import { wordsOfMs } from './clock.js'

/** A failure in sentences for people. */
export interface ProblemWords {
  readonly title: string
  readonly details: readonly string[]
  /** What to name when asking for help. */
  readonly reference: string | null
}

/** Ending a room failed. The hub answers "not found" for every room that this person may not end. */
export function wordsOfEndProblem(problem: unknown): ProblemWords {
  const words = wordsOfProblem(problem)
  if (!(problem instanceof RoomwireProblem) || problem.code !== 'NOT_FOUND') return words
  return {
    ...words,
    title: 'This room cannot be ended here',
    details: ['Either Roomwire did not make it, or you may only end rooms that you made yourself.'],
  }
}

export function wordsOfProblem(problem: unknown): ProblemWords {
  if (!(problem instanceof RoomwireProblem)) {
    return { title: 'That did not work', details: [String(problem)], reference: null }
  }
  const fields = problem.errors.map(({ field, detail }) => `${field}: ${detail}`)
  const wait = problem.retryAfterMs === null ? [] : [`Try again in ${wordsOfMs(problem.retryAfterMs)}.`]
  const detail = problem.message === problem.title ? [] : [problem.message]
  return {
    // The title of a problem with fields is for programmers.
    title: fields.length > 0 ? 'That was not accepted' : problem.title,
    details: [...(fields.length > 0 ? fields : detail), ...wait],
    reference: problem.requestId,
  }
}
