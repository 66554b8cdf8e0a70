export type { Backoff } from './backoff.js'
export type { Roomwire, RoomwireOptions, RoomwireState } from './client.js'
export { createRoomwire } from './client.js'
export { adviceOf, wordsOf } from './close-codes.js'
export type { Environment, WebSocketLike } from './environment.js'
export type { Failure, FailureReport } from './failure.js'
export type { Following, Gateway, Guild } from './guild.js'
export type { Connection, ConnectionEnd } from './hub-connection.js'
export { newIdempotencyKey } from './idempotency-key.js'
export type { Me } from './me.js'
export { isHere } from './me.js'
export type { PersistedStorage } from './persisted.js'
export type { ProblemCode } from './problem.js'
export { RoomwireProblem } from './problem.js'
export type { CreateOptions, RequestOptions, RoomActions } from './rest.js'
export type { Member, Room } from './rooms.js'
export { connectionOf, guildOf, meOf, roomOf, roomsOf } from './selectors.js'
export type { Timeouts } from './socket.js'
export type { GetToken, TokenWish } from './token.js'
export type {
  Advice,
  ConsoleConfig,
  CreatedRoom,
  CreateInvite,
  CreateRoom,
  FieldProblem,
  GatewayState,
  Invite,
  RoomList,
  SnapshotRoom,
  VoicePayload,
} from './wire/index.js'
