import { RoomwireProblem } from '@roomwire/sdk'
import { wordsOfMs } from './clock.js'

/** A failure in sentences for people. */
export interface ProblemWords {
  readonly title: string
  readonly details: readonly string[]
  /** What to name when asking for help. */
  readonly reference: string | null
}

export function wordsOfProblem(problem: unknown): ProblemWords {
  if (!(problem instanceof RoomwireProblem)) {
    return { title: 'That did not work', details: [String(problem)], reference: null }
  }
  const fields = problem.errors.map(({ field, detail }) => `${field}: ${detail}`)
  const wait = problem.retryAfterMs === null ? [] : [`Try again in ${wordsOfMs(problem.retryAfterMs)}.`]
  const detail = problem.message === problem.title ? [] : [problem.message]
  return {
    // The hub's title speaks to programmers where its fields speak to people.
    title: fields.length > 0 ? 'That was not accepted' : problem.title,
    details: [...(fields.length > 0 ? fields : detail), ...wait],
    reference: problem.requestId,
  }
}
