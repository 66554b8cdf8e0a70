import { useRoomActions, useRooms } from '@roomwire/sdk/react'
import { useState } from 'react'

export function Rooms() {
  return (
    <ul>
      {useRooms().map(room => (
        <li key={room.channelId}>
          {room.name}: {room.members.map(member => member.displayName).join(', ') || 'nobody'}{' '}
          <EndRoom channelId={room.channelId} />
        </li>
      ))}
    </ul>
  )
}

/** Only rooms that Roomwire made can be ended; the hub refuses the others, and says why. */
function EndRoom({ channelId }: { channelId: string }) {
  const { endRoom } = useRoomActions()
  const [problem, setProblem] = useState('')
  return (
    <>
      <button type="button" onClick={() => endRoom(channelId).catch(error => setProblem(error.message))}>
        End
      </button>
      {problem && <em role="alert"> {problem}</em>}
    </>
  )
}
