'use client'

export { useConnection, useGuild, useRoom, useRoomActions, useRooms, useRoomwire } from './hooks.js'
export type { RoomwireProviderProps } from './provider.js'
export { RoomwireProvider } from './provider.js'
