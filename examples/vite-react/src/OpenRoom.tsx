import { useRoomActions } from '@roomwire/sdk/react'
import { useState } from 'react'

export function OpenRoom() {
  const { createRoom } = useRoomActions()
  const [name, setName] = useState('')
  const [problem, setProblem] = useState('')

  // The room appears in the list by itself, when Discord has announced it.
  const open = () =>
    createRoom({ name }).then(
      () => setName(''),
      error => setProblem(error.message),
    )

  return (
    <form
      onSubmit={event => {
        event.preventDefault()
        setProblem('')
        void open()
      }}
    >
      <input value={name} onChange={event => setName(event.target.value)} placeholder="Name" required />{' '}
      <button type="submit">Open a room</button>
      {problem && <em role="alert"> {problem}</em>}
    </form>
  )
}
