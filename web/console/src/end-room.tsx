import type { Room } from '@roomwire/sdk'
import { useRoomActions } from '@roomwire/sdk/react'
import { useRef, useState } from 'react'
import { Icon } from './icons.js'
import { ProblemNote } from './problem-note.js'
import { wordsOfEndProblem } from './problem-words.js'

/** The steps of ending a room. */
type Ending = 'asked' | 'under-way' | 'ended' | { readonly problem: unknown }

/** A button, a question and an answer. The card goes when Discord has reported that the room is gone. */
export function useEndRoom(room: Room, stale: boolean) {
  const { endRoom } = useRoomActions()
  const [ending, setEnding] = useState<Ending | null>(null)
  const asked = useRef(false)

  async function end() {
    setEnding('under-way')
    try {
      await endRoom(room.channelId)
      setEnding('ended')
    } catch (problem) {
      setEnding({ problem })
    }
  }

  return {
    button: ending === null && (
      <button
        type="button"
        className="quiet round"
        data-testid="end-room"
        onClick={() => {
          asked.current = true
          setEnding('asked')
        }}
        // biome-ignore lint/a11y/noAutofocus: after "Keep", the focus returns to the button
        autoFocus={asked.current}
        aria-label={`End ${room.name}`}
        title="End this room"
      >
        <Icon name="power" />
      </button>
    ),
    panel: ending !== null && (
      <EndPanel
        room={room}
        ending={ending}
        stale={stale}
        onEnd={() => void end()}
        onKeep={() => setEnding(null)}
      />
    ),
  }
}

interface EndPanelProps {
  readonly room: Room
  readonly ending: Ending
  readonly stale: boolean
  readonly onEnd: () => void
  readonly onKeep: () => void
}

function EndPanel({ room, ending, stale, onEnd, onKeep }: EndPanelProps) {
  if (typeof ending === 'object')
    return <ProblemNote problem={ending.problem} wordsOf={wordsOfEndProblem} onDismiss={onKeep} takesFocus />
  if (ending === 'ended') {
    return (
      <div className="question" role="status">
        <p tabIndex={-1} ref={takeFocus}>
          {stale ? 'Ended. The page follows when the hub hears from Discord again.' : 'Ended.'}
        </p>
      </div>
    )
  }
  const busy = ending !== 'asked'
  return (
    <div className="question">
      <p>{busy ? 'Ending the room…' : questionOf(room.members.length)}</p>
      <div className="answers">
        <button type="button" className="quiet" onClick={onKeep} disabled={busy}>
          Keep
        </button>
        <button
          type="button"
          className="danger"
          data-testid="end-room-confirm"
          // Not `disabled`, which would remove the focus.
          onClick={busy ? undefined : onEnd}
          aria-disabled={busy}
          // biome-ignore lint/a11y/noAutofocus: the question follows a click on "end"
          autoFocus
        >
          End room
        </button>
      </div>
    </div>
  )
}

/** The same function at every render, so that it is called once for each element. */
const takeFocus = (element: HTMLElement | null) => element?.focus()

function questionOf(members: number): string {
  if (members === 0) return 'End this room? Nobody is in it.'
  return members === 1 ? 'End this room? One person is in it.' : `End this room? ${members} people are in it.`
}
