import { createRoomwire, type RoomwireOptions } from '../src/index.js'
import { guildId, room, snapshot, subscribed, World, welcome } from './world.js'

/** A page before `connect()`, in a world of its own. */
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

/** A page after `auth.ok`. */
export async function connected(options: Partial<RoomwireOptions> = {}) {
  const page = start(options)
  page.roomwire.connect()
  await page.world.settle()
  page.world.socket.open()
  page.world.socket.receive(welcome())
  return page
}

/** A page with one guild that is followed live. */
export async function live(rooms: object[] = [room('11')], options: Partial<RoomwireOptions> = {}) {
  const page = await connected(options)
  page.world.socket.receive(subscribed())
  page.world.socket.receive(snapshot(rooms))
  return page
}
