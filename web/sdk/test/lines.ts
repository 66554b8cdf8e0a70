import { createRoomwire, type RoomwireOptions } from '../src/index.js'
import { guildId, room, snapshot, subscribed, World, welcome } from './world.js'

/** A line that rests, in a world of its own. */
export function start(options: Partial<RoomwireOptions> = {}) {
  const world = new World()
  const wishes: string[] = []
  const roomwire = createRoomwire({
    url: 'https://hub.example/',
    getToken: async wish => {
      wishes.push(wish)
      return `token-${wishes.length}`
    },
    environment: world.environment,
    ...options,
  })
  const guild = () => roomwire.getState().guilds.get(guildId)
  const connection = () => roomwire.getState().connection
  return { world, wishes, roomwire, guild, connection }
}

/** A line that the hub has welcomed. */
export async function connected(options: Partial<RoomwireOptions> = {}) {
  const line = start(options)
  line.roomwire.connect()
  await line.world.settle()
  line.world.socket.open()
  line.world.socket.hear(welcome())
  return line
}

/** A line with one guild that is followed live. */
export async function live(rooms: object[] = [room('11')], options: Partial<RoomwireOptions> = {}) {
  const line = await connected(options)
  line.world.socket.hear(subscribed())
  line.world.socket.hear(snapshot(rooms))
  return line
}
