// Generated from the Rust crate `proto`; do not edit.
// UPDATE_WIRE=1 cargo test -p proto --test typescript

/**
 * A guild: what Discord's users call a server.
 */
export type GuildId = string;

/**
 * A channel; the voice and stage channels among them are rooms.
 */
export type ChannelId = string;

/**
 * A Discord user.
 */
export type UserId = string;

/**
 * What a client says.
 */
export type ClientFrame = { "type": "auth", 
/**
 * A JWT.
 */
token: string, 
/**
 * Which guilds to subscribe; all that the token allows and the hub serves when absent.
 */
guilds?: Array<GuildId>, 
/**
 * Only these rooms.
 */
rooms?: Array<ChannelId>, 
/**
 * Where to continue, a guild; a `null` is as good as nothing.
 */
recover?: Record<string, string>, } | { "type": "refresh", 
/**
 * A JWT.
 */
token: string, } | { "type": "subscribe", 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * Only these rooms.
 */
rooms?: Array<ChannelId>, 
/**
 * Where to continue.
 */
recover?: string, } | { "type": "unsubscribe", 
/**
 * The guild.
 */
guildId: GuildId, } | { "type": "ping" };

/**
 * What a client frame may carry as `id`, and its answer as `re`.
 */
export type Correlation = number | string;

/**
 * What the hub says.
 */
export type ServerFrame = { "type": "ack" } & AckFrame | { "type": "event" } & EventFrame | { "type": "notice" } & NoticeFrame | { "type": "error" } & ErrorFrame;

/**
 * An answer to a client frame.
 */
export type AckFrame = { 
/**
 * [`FRAME_VERSION`].
 */
v: number, 
/**
 * The client frame's `id`.
 */
re?: Correlation, 
/**
 * When this frame was made, in ms since the Unix epoch.
 */
ts: number, } & ({ "event": "auth.ok", 
/**
 * The first of `guilds`; absent where `guilds` is empty.
 */
guildId?: GuildId, 
/**
 * The guilds that are subscribed now, perhaps none; a `subscribed` follows for each.
 */
guilds: Array<GuildId>, 
/**
 * The token's subject.
 */
sub: string, 
/**
 * Names this connection in the hub's log.
 */
connectionId: string, 
/**
 * When the connection ends without a `refresh`, in ms since the Unix epoch.
 */
expiresAt: number, } | { "event": "auth.refreshed", 
/**
 * When the connection ends without another, in ms since the Unix epoch.
 */
expiresAt: number, 
/**
 * All guilds that the newer token allows and the hub serves. Those that are not
 * subscribed yet are subscribed by the client.
 */
guilds: Array<GuildId>, } | { "event": "subscribed", 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * Whether the missed events follow (and no snapshot).
 */
recovered: boolean, 
/**
 * Where this client continues from.
 */
pos: string, } | { "event": "unsubscribed", 
/**
 * The guild.
 */
guildId: GuildId, } | { "event": "pong" });

/**
 * The answers.
 */
export type Ack = { "event": "auth.ok", 
/**
 * The first of `guilds`; absent where `guilds` is empty.
 */
guildId?: GuildId, 
/**
 * The guilds that are subscribed now, perhaps none; a `subscribed` follows for each.
 */
guilds: Array<GuildId>, 
/**
 * The token's subject.
 */
sub: string, 
/**
 * Names this connection in the hub's log.
 */
connectionId: string, 
/**
 * When the connection ends without a `refresh`, in ms since the Unix epoch.
 */
expiresAt: number, } | { "event": "auth.refreshed", 
/**
 * When the connection ends without another, in ms since the Unix epoch.
 */
expiresAt: number, 
/**
 * All guilds that the newer token allows and the hub serves. Those that are not
 * subscribed yet are subscribed by the client.
 */
guilds: Array<GuildId>, } | { "event": "subscribed", 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * Whether the missed events follow (and no snapshot).
 */
recovered: boolean, 
/**
 * Where this client continues from.
 */
pos: string, } | { "event": "unsubscribed", 
/**
 * The guild.
 */
guildId: GuildId, } | { "event": "pong" };

/**
 * Something happened in a guild.
 */
export type EventFrame = { 
/**
 * [`FRAME_VERSION`].
 */
v: number, 
/**
 * Where.
 */
guildId: GuildId, 
/**
 * The place in the guild's log; absent on unnumbered events.
 */
pos?: string, 
/**
 * When the worker read it; when this frame was made for snapshots and unnumbered events.
 * In ms since the Unix epoch.
 */
ts: number, 
/**
 * Counts the numbered frames of this subscription, without gaps; a snapshot starts it at 0.
 */
n?: number, } & ({ "event": "room.created", "payload": RoomPayload } | { "event": "room.updated", "payload": RoomPayload } | { "event": "room.deleted", "payload": RoomPayload } | { "event": "voice.joined", "payload": VoicePayload } | { "event": "voice.left", "payload": VoicePayload } | { "event": "voice.state_changed", "payload": VoicePayload } | { "event": "guild.snapshot", "payload": SnapshotPayload } | { "event": "gateway.state", "payload": GatewayPayload });

/**
 * An event in a view.
 */
export type ViewEvent = { "event": "room.created", "payload": RoomPayload } | { "event": "room.updated", "payload": RoomPayload } | { "event": "room.deleted", "payload": RoomPayload } | { "event": "voice.joined", "payload": VoicePayload } | { "event": "voice.left", "payload": VoicePayload } | { "event": "voice.state_changed", "payload": VoicePayload } | { "event": "guild.snapshot", "payload": SnapshotPayload } | { "event": "gateway.state", "payload": GatewayPayload };

/**
 * A room.
 */
export type RoomPayload = { 
/**
 * Its guild.
 */
guildId: GuildId, 
/**
 * Its channel.
 */
channelId: ChannelId, 
/**
 * Its name; empty while only a member's voice state made it known.
 */
name: string, 
/**
 * Its category.
 */
parentId?: ChannelId, 
/**
 * How many may be in it; 0: no limit.
 */
userLimit: number, 
/**
 * The link that opens it in Discord: `https://discord.com/channels/<guild>/<channel>`.
 */
joinUrl: string, };

/**
 * A room with who is in it.
 */
export type SnapshotRoom = { 
/**
 * Roomwire made it, and Discord has not echoed it yet (only in REST answers).
 */
opening?: boolean, 
/**
 * Who is in it.
 */
members: Array<VoicePayload>, 
/**
 * Its guild.
 */
guildId: GuildId, 
/**
 * Its channel.
 */
channelId: ChannelId, 
/**
 * Its name; empty while only a member's voice state made it known.
 */
name: string, 
/**
 * Its category.
 */
parentId?: ChannelId, 
/**
 * How many may be in it; 0: no limit.
 */
userLimit: number, 
/**
 * The link that opens it in Discord: `https://discord.com/channels/<guild>/<channel>`.
 */
joinUrl: string, };

/**
 * A user in a room.
 */
export type VoicePayload = { 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * The room; of `voice.left`: the one that was left.
 */
channelId: ChannelId, 
/**
 * The Discord user.
 */
userId: UserId, 
/**
 * Name and picture, where known.
 */
member?: Member, 
/**
 * `voice.left` of a move: where to, if the viewer may see that room.
 */
movedTo?: ChannelId, 
/**
 * `voice.joined` of a move: where from, if the viewer may see that room.
 */
movedFrom?: ChannelId, 
/**
 * Muted by the guild.
 */
mute: boolean, 
/**
 * Deafened by the guild.
 */
deaf: boolean, 
/**
 * Muted by themselves.
 */
selfMute: boolean, 
/**
 * Deafened by themselves.
 */
selfDeaf: boolean, 
/**
 * Camera on.
 */
selfVideo: boolean, 
/**
 * Streaming ("Go Live").
 */
selfStream: boolean, 
/**
 * Not allowed to speak, as the audience of a stage.
 */
suppress: boolean, };

/**
 * A guild as one viewer sees it.
 */
export type SnapshotPayload = { 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * Why a snapshot and not events, in a fixed word such as `subscribed`.
 */
reason: string, 
/**
 * The rooms, by channel id.
 */
rooms: Array<SnapshotRoom>, 
/**
 * How fresh it is.
 */
gateway: GatewayPayload, 
/**
 * Of a snapshot in parts: which this is, from 1.
 */
part?: number, 
/**
 * Of a snapshot in parts: how many there are.
 */
of?: number, };

/**
 * Something will happen to this connection.
 */
export type NoticeFrame = { 
/**
 * [`FRAME_VERSION`].
 */
v: number, 
/**
 * When this frame was made, in ms since the Unix epoch.
 */
ts: number, } & ({ "event": "draining", 
/**
 * When to come back, in ms from now.
 */
reconnectAfterMs: number, });

/**
 * The notices.
 */
export type Notice = { "event": "draining", 
/**
 * When to come back, in ms from now.
 */
reconnectAfterMs: number, };

/**
 * Something was refused.
 */
export type ErrorFrame = { 
/**
 * [`FRAME_VERSION`].
 */
v: number, 
/**
 * Why.
 */
error: FrameError, 
/**
 * The client frame's `id`.
 */
re?: Correlation, 
/**
 * Of an error that ends the connection: its name in the hub's log. A client that was refused has
 * no `auth.ok` that names it.
 */
connectionId?: string, 
/**
 * When this frame was made, in ms since the Unix epoch.
 */
ts: number, };

/**
 * Why something was refused.
 */
export type FrameError = { 
/**
 * As in REST's problems.
 */
code: Code, 
/**
 * What it is this time.
 */
message: string, 
/**
 * Where waiting helps: how long, in ms.
 */
retryAfterMs?: number, };

/**
 * What can be seen of a user without knowing them.
 */
export type Member = { 
/**
 * The name as this guild sees it: nickname, else display name, else user name.
 */
displayName: string, 
/**
 * Where the picture is.
 */
avatarUrl: string, };

/**
 * The marks of a voice state. What is absent is false.
 */
export type VoiceFlags = { 
/**
 * Muted by the guild.
 */
mute: boolean, 
/**
 * Deafened by the guild.
 */
deaf: boolean, 
/**
 * Muted by themselves.
 */
selfMute: boolean, 
/**
 * Deafened by themselves.
 */
selfDeaf: boolean, 
/**
 * Camera on.
 */
selfVideo: boolean, 
/**
 * Streaming ("Go Live").
 */
selfStream: boolean, 
/**
 * Not allowed to speak, as the audience of a stage.
 */
suppress: boolean, };

/**
 * What the gateway connection of a guild's shard is doing.
 */
export type GatewayState = "live" | "resuming" | "rebuilding" | "down";

/**
 * A gateway state with its age, as browsers see it.
 */
export type GatewayPayload = { 
/**
 * The state.
 */
state: GatewayState, 
/**
 * While live: since the worker's last delivery; otherwise since the state began. In ms.
 */
ageMs: number, 
/**
 * Why, in one of a few fixed words, where there is something to say.
 */
reason?: string, };

/**
 * `POST /api/create-room`. What is absent is chosen by the hub.
 */
export type CreateRoom = { 
/**
 * 1 to 100 characters.
 */
name?: string, 
/**
 * A category.
 */
parentId?: ChannelId, 
/**
 * 0 (no limit) to 99; 4 when absent.
 */
userLimit?: number, 
/**
 * The primary guild when absent.
 */
guildId?: GuildId, };

/**
 * 201 of `POST /api/create-room`.
 */
export type CreatedRoom = { 
/**
 * The channel that Discord made.
 */
channelId: ChannelId, 
/**
 * Its name, as Discord took it.
 */
name: string, 
/**
 * Its guild.
 */
guildId: GuildId, 
/**
 * Its category.
 */
parentId?: ChannelId, 
/**
 * How many may be in it; 0: no limit.
 */
userLimit: number, 
/**
 * The link that opens it in Discord: `https://discord.com/channels/<guild>/<channel>`.
 */
joinUrl: string, };

/**
 * `POST /api/rooms/{channelId}/invites`. What is absent is Discord's default.
 */
export type CreateInvite = { 
/**
 * After how many seconds it ends, up to 604,800 (a week); 0: never; 86,400 (a day) when absent.
 */
maxAgeSeconds?: number, 
/**
 * How often it may be used, up to 100; 0 (no limit) when absent.
 */
maxUses?: number, };

/**
 * 201 of `POST /api/rooms/{channelId}/invites`.
 */
export type Invite = { 
/**
 * The link: it leads into the channel, and makes who is not in the guild a member of it.
 */
url: string, 
/**
 * Discord's code.
 */
code: string, 
/**
 * When it ends, in ms since the Unix epoch; absent: never.
 */
expiresAt?: number, };

/**
 * 200 of `DELETE /api/end-room/{channelId}`.
 */
export type EndedRoom = { 
/**
 * Always true.
 */
ok: boolean, };

/**
 * 200 of `GET /api/rooms` and `GET /api/rooms/{channelId}`.
 */
export type RoomList = { 
/**
 * The guild.
 */
guildId: GuildId, 
/**
 * What this principal may see of it.
 */
rooms: Array<SnapshotRoom>, 
/**
 * Where in the guild's log this was read.
 */
pos: string, 
/**
 * How fresh it is.
 */
gateway: GatewayPayload, };

/**
 * `GET /console.json`: what the console asks before it asks anything else.
 */
export type ConsoleConfig = { 
/**
 * How a person signs in.
 */
signIn: SignIn, 
/**
 * The guilds that the hub serves, the primary one first.
 */
guildIds: Array<GuildId>, };

/**
 * How a person signs in to the console.
 */
export type SignIn = { "kind": "demo", 
/**
 * Where the issuer is.
 */
issuerUrl: string, } | { "kind": "token" };

/**
 * Why something was refused. The names are stable; clients act on them.
 */
export type Code = "BAD_REQUEST" | "UNAUTHORIZED" | "FORBIDDEN" | "NOT_FOUND" | "CONFLICT" | "IN_PROGRESS" | "UNPROCESSABLE" | "TOO_LARGE" | "RATE_LIMITED" | "DISCORD_FORBIDDEN" | "DISCORD_UNAVAILABLE" | "UNAVAILABLE" | "INTERNAL" | "BAD_SIGNATURE" | "STALE_TIMESTAMP";

/**
 * The body of a refusal (RFC 9457), as `application/problem+json`.
 */
export type Problem = { 
/**
 * `urn:roomwire:<code in lower case>`.
 */
type: string, 
/**
 * The same for every problem of the code.
 */
title: string, 
/**
 * The HTTP status.
 */
status: number, 
/**
 * What it is this time.
 */
detail: string, 
/**
 * What clients act on.
 */
code: Code, 
/**
 * Names this request in the hub's log.
 */
requestId: string, 
/**
 * Which fields are wrong, for `BAD_REQUEST`.
 */
errors?: Array<FieldProblem>, 
/**
 * Where waiting helps: how long, in ms. The header `Retry-After` says it in whole seconds.
 */
retryAfterMs?: number, };

/**
 * One field that is wrong.
 */
export type FieldProblem = { 
/**
 * The field's name.
 */
field: string, 
/**
 * What is wrong with it.
 */
detail: string, };

/**
 * What a client does after a close.
 */
export type Advice = "stayAway" | "comeBack" | "comeBackAfterNotice" | "comeBackAfterError" | "comeBackWithNewToken";

/** What a client does after each close code; any other: `comeBack`. */
export const CLOSE_ADVICE: Readonly<Record<number, Advice>> = {
  1000: "stayAway",
  1001: "comeBackAfterNotice",
  1002: "stayAway",
  1003: "stayAway",
  1007: "stayAway",
  1008: "stayAway",
  1009: "stayAway",
  1011: "comeBack",
  1012: "comeBackAfterNotice",
  1013: "comeBack",
  4400: "stayAway",
  4401: "comeBackWithNewToken",
  4403: "stayAway",
  4408: "comeBack",
  4429: "comeBackAfterError",
  4503: "comeBack",
};

/** The codes after which the same request may succeed later. */
export const RETRIABLE: ReadonlySet<Code> = new Set(["IN_PROGRESS","RATE_LIMITED","DISCORD_UNAVAILABLE","UNAVAILABLE","INTERNAL","STALE_TIMESTAMP"]);
