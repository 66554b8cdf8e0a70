import { Icon } from './icons.js'
import { type ProblemWords, wordsOfProblem } from './problem-words.js'

interface ProblemNoteProps {
  readonly problem: unknown
  /** Replaces the usual words. */
  readonly wordsOf?: (problem: unknown) => ProblemWords
  readonly onDismiss?: () => void
  /** It replaces the element that had the focus. */
  readonly takesFocus?: boolean
}

/** A problem, beside the control that caused it. */
export function ProblemNote({
  problem,
  wordsOf = wordsOfProblem,
  onDismiss,
  takesFocus = false,
}: ProblemNoteProps) {
  const { title, details, reference } = wordsOf(problem)
  return (
    <div className="note bad" role="alert">
      <Icon name="warning" />
      <div className="note-text">
        <strong>{title}</strong>
        {details.map(detail => (
          <p key={detail}>{detail}</p>
        ))}
        {reference !== null && (
          <p className="reference">
            Request <code>{reference}</code>
          </p>
        )}
      </div>
      {onDismiss && (
        <button
          type="button"
          className="quiet round"
          onClick={onDismiss}
          // biome-ignore lint/a11y/noAutofocus: only where it replaces what had the focus
          autoFocus={takesFocus}
          aria-label="Dismiss"
          title="Dismiss"
        >
          <Icon name="cross" />
        </button>
      )}
    </div>
  )
}
