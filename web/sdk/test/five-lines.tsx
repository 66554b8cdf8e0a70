import { createRoomwire } from '@roomwire/sdk'
import { RoomwireProvider, useRooms } from '@roomwire/sdk/react'
const roomwire = createRoomwire({ url: 'https://hub.example', getToken: () => fetch('/token').then(r => (r.ok ? r.text() : Promise.reject(r.status))) })
const Rooms = () => useRooms().map(room => <p key={room.channelId}>{room.name}: {room.members.length}</p>)
export const App = () => <RoomwireProvider roomwire={roomwire}><Rooms /></RoomwireProvider>
