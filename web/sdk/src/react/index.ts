'use client'

export { useConnection, useGuild, useMe, useRoom, useRoomActions, useRooms, useRoomwire } from './hooks.js'
export type { JoinLinkProps } from './join-link.js'
export { JoinLink } from './join-link.js'
export type { RoomwireProviderProps } from './provider.js'
export { RoomwireProvider } from './provider.js'
