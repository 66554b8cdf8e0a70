import { createRoomwire } from '@roomwire/sdk'
import { RoomwireProvider, useConnection, useGuild } from '@roomwire/sdk/react'
import { OpenRoom } from './OpenRoom'
import { Rooms } from './Rooms'

// The demo's hub and issuer. In production: your hub, and a token from your own server for the person who is signed in.
const roomwire = createRoomwire({
  url: 'http://127.0.0.1:3000',
  getToken: async () => {
    const response = await fetch('http://127.0.0.1:3901/token?sub=ada')
    if (!response.ok) throw new Error(`The issuer answered ${response.status}.`)
    return response.text()
  },
})

export default function App() {
  return (
    <RoomwireProvider roomwire={roomwire}>
      <h1>Rooms</h1>
      <Freshness />
      <Rooms />
      <OpenRoom />
    </RoomwireProvider>
  )
}

/** Shows whether the rooms are live, or why the page is not connected. */
function Freshness() {
  const connection = useConnection()
  const guild = useGuild()
  const reason = connection.state === 'closed' || connection.state === 'waiting' ? connection.reason : null
  // A hint names what a developer or an operator has to change. A failure without a hint ends by itself.
  if (reason && (connection.state === 'closed' || reason.hint))
    return (
      <p role="alert">
        No connection: {reason.text}. {reason.hint}
      </p>
    )
  if (!guild || guild.stale) return <p>Connecting…</p>
  return <p>Live</p>
}
