import { type CreatedRoom, newIdempotencyKey } from '@roomwire/sdk'
import { useRoomActions } from '@roomwire/sdk/react'
import { type FormEvent, useRef, useState } from 'react'
import { Icon } from './icons.js'
import { ProblemNote } from './problem-note.js'

interface CreateRoomProps {
  /** Default: the hub's primary guild. */
  readonly guildId?: string
  readonly onCreated: (room: CreatedRoom) => void
}

/** A form for a new room. The hub chooses what is left empty. */
export function CreateRoom({ guildId, onCreated }: CreateRoomProps) {
  const { createRoom } = useRoomActions()
  const [name, setName] = useState('')
  const [limit, setLimit] = useState('4')
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<unknown>(null)
  /** The creation that has not succeeded yet. Submitting the same room again continues it, so that it is created once. */
  const unfinished = useRef<{ readonly spec: string; readonly key: string } | null>(null)
  const nameField = useRef<HTMLInputElement>(null)

  async function submit(event: FormEvent) {
    event.preventDefault()
    if (busy) return
    setBusy(true)
    setProblem(null)
    const trimmed = name.trim()
    const wanted = {
      ...(trimmed !== '' && { name: trimmed }),
      // 0 is Discord's value for "no limit".
      userLimit: Number(limit),
      ...(guildId !== undefined && { guildId }),
    }
    const spec = JSON.stringify(wanted)
    if (unfinished.current?.spec !== spec) unfinished.current = { spec, key: newIdempotencyKey() }
    try {
      const room = await createRoom(wanted, { idempotencyKey: unfinished.current.key })
      unfinished.current = null
      setName('')
      onCreated(room)
      nameField.current?.focus()
    } catch (error) {
      setProblem(error)
    } finally {
      setBusy(false)
    }
  }

  function dismiss() {
    setProblem(null)
    nameField.current?.focus()
  }

  return (
    <form className="create" onSubmit={event => void submit(event)} aria-label="New room">
      <label className="field grow">
        <span className="label">New room</span>
        <input
          ref={nameField}
          data-testid="create-room-name"
          value={name}
          onChange={event => setName(event.target.value)}
          placeholder="Name it, or leave it to us"
          maxLength={100}
          autoComplete="off"
          enterKeyHint="done"
        />
      </label>
      <label className="field places">
        <span className="label">Places</span>
        <input
          data-testid="create-room-limit"
          type="number"
          inputMode="numeric"
          min={0}
          max={99}
          step={1}
          value={limit}
          placeholder="any"
          onChange={event => setLimit(event.target.value)}
        />
      </label>
      <button type="submit" className="primary" data-testid="create-room-submit" aria-disabled={busy}>
        <Icon name="plus" />
        {busy ? 'Opening…' : 'Open room'}
      </button>
      {problem !== null && <ProblemNote problem={problem} onDismiss={dismiss} />}
    </form>
  )
}
