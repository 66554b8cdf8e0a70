import { createRoomwire } from '@roomwire/sdk'
import { RoomwireProvider, useRooms } from '@roomwire/sdk/react'
const roomwire = createRoomwire({ url: 'http://127.0.0.1:3000', getToken: () => fetch('http://127.0.0.1:3901/token?sub=ada').then(r => (r.ok ? r.text() : Promise.reject(r.status))) })
const Rooms = () => useRooms().map(room => <p key={room.channelId}>{room.name}: {room.members.length}</p>)
export default function App() { return <RoomwireProvider roomwire={roomwire}><Rooms /></RoomwireProvider> }
