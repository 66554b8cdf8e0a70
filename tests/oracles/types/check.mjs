// Everything that the simulated Discord sends, against the types that others wrote.
//
// It provokes every dispatch and every REST answer, writes each of them down as a literal of the
// type that `discord-api-types` gives it, and lets the TypeScript compiler judge, strictly: a
// missing field, a wrong type, a number that is no member of its enum, and a field that the type
// does not have are all errors. Damaged literals go along, each of which must be refused.
//
// Where `DISCORD_OPENAPI` names Discord's own OpenAPI description, every REST answer is held against
// that too. One place is known where it and Discord's documentation differ, and the simulator follows
// the documentation: the `code` in the leaves of `errors` is a string (`reference.mdx`, "Error
// Messages"), where the description says integer. It is replaced before validating, and nothing else is.
// Ends non-zero on any failure; the last line is `N passed, N failed`.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startSim } from "../sim.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, "../../discord-sim/src");
if (!existsSync(join(here, "node_modules/discord-api-types"))) {
  const installed = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
  if (installed.status !== 0) {
    process.exit(1);
  }
}
const { default: WebSocket } = await import("ws");
const { default: Ajv } = await import("ajv/dist/2020.js");
const { default: addFormats } = await import("ajv-formats");

const GUILD = "100000000000000001";
const CATEGORY = "100000000000000010";
const LOUNGE = "100000000000000011";
const STAFF_ROOM = "100000000000000013";
const STAFF_ROLE = "100000000000000020";
const BOT_ROLE = "100000000000000021";
const ADA = "200000000000000001";
const BOT = "300000000000000001";

/** What each dispatch is called in the types. */
const DISPATCHES = {
  READY: "GatewayReadyDispatch",
  RESUMED: "GatewayResumedDispatch",
  GUILD_CREATE: "GatewayGuildCreateDispatch",
  GUILD_UPDATE: "GatewayGuildUpdateDispatch",
  GUILD_DELETE: "GatewayGuildDeleteDispatch",
  GUILD_ROLE_CREATE: "GatewayGuildRoleCreateDispatch",
  GUILD_ROLE_UPDATE: "GatewayGuildRoleUpdateDispatch",
  GUILD_ROLE_DELETE: "GatewayGuildRoleDeleteDispatch",
  GUILD_MEMBER_ADD: "GatewayGuildMemberAddDispatch",
  GUILD_MEMBER_UPDATE: "GatewayGuildMemberUpdateDispatch",
  GUILD_MEMBERS_CHUNK: "GatewayGuildMembersChunkDispatch",
  CHANNEL_CREATE: "GatewayChannelCreateDispatch",
  CHANNEL_UPDATE: "GatewayChannelUpdateDispatch",
  CHANNEL_DELETE: "GatewayChannelDeleteDispatch",
  CHANNEL_INFO: "GatewayChannelInfoDispatch",
  VOICE_STATE_UPDATE: "GatewayVoiceStateUpdateDispatch",
  VOICE_SERVER_UPDATE: "GatewayVoiceServerUpdateDispatch",
  VOICE_CHANNEL_STATUS_UPDATE: "GatewayVoiceChannelStatusUpdateDispatch",
  VOICE_CHANNEL_START_TIME_UPDATE: "GatewayVoiceChannelStartTimeUpdateDispatch",
  SOUNDBOARD_SOUNDS: "GatewaySoundboardSoundsDispatch",
  INTERACTION_CREATE: "GatewayInteractionCreateDispatch",
};
const OPCODES = {
  1: "GatewayHeartbeatRequest",
  7: "GatewayReconnect",
  9: "GatewayInvalidSession",
  10: "GatewayHello",
  11: "GatewayHeartbeatAck",
};

/**
 * Fields that Discord documents (or lists as required in its OpenAPI) and that these types do not
 * have: taken out before the check, wherever they stand next to the named field. Nothing else is.
 */
const UNKNOWN_TO_THE_TYPES = [
  // OpenAPI `GuildResponse`: required.
  { beside: "verification_level", fields: ["home_header", "nsfw"] },
  // OpenAPI `PrivateApplicationResponse`: required.
  { beside: "verify_key", fields: ["type", "explicit_content_filter", "eligible_oauth2_scopes"] },
  // OpenAPI `GuildInviteResponse`: required.
  { beside: "max_uses", fields: ["guild_id"] },
];

/** Every distinct thing that was sent, by its type and its shape. */
const records = new Map();
/** Every REST answer: `{method, path, status, body}`. */
const answers = [];

function record(type, value, label) {
  const literal = JSON.stringify(known(value)) ?? "undefined";
  // Two values of one shape need one check; ids and times differ all the time.
  const shape = `${type} ${literal.replace(/"\d{2,}"/g, '"#"').replace(/\d{4,}/g, "#")}`;
  if (!records.has(shape)) {
    records.set(shape, { type, literal, label, value: known(value) });
  }
}

function known(value) {
  if (Array.isArray(value)) {
    return value.map(known);
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  const copy = {};
  const dropped = UNKNOWN_TO_THE_TYPES.filter((rule) => rule.beside in value).flatMap((rule) => rule.fields);
  for (const [key, inner] of Object.entries(value)) {
    if (!dropped.includes(key)) {
      copy[key] = known(inner);
    }
  }
  return copy;
}

const sim = await startSim({
  SIM_INTENTS_GRANTED: String(2 + 256 + 32768),
  SIM_IDENTIFY_EVERY_MS: "0",
  SIM_ROUTE_REQUESTS: "1000",
  SIM_GLOBAL_PER_S: "1000",
  SIM_RECONNECT_GRACE_MS: "50",
});

/** A gateway connection that records whatever it is sent. */
class Bot {
  constructor(identify) {
    this.identify = identify;
    this.seen = [];
    this.waiting = [];
    this.socket = new WebSocket(`ws://${sim.address}/?v=10&encoding=json`);
    this.socket.on("message", (data) => this.#take(JSON.parse(data.toString())));
    this.socket.on("error", () => {});
    this.closed = new Promise((resolve) => this.socket.once("close", resolve));
  }

  #take(payload) {
    if (payload.op === 0) {
      this.seq = payload.s;
      if (payload.t === "READY") {
        this.session = payload.d.session_id;
      }
      const type = DISPATCHES[payload.t];
      if (type === undefined) {
        throw new Error(`no type is known for ${payload.t}`);
      }
      record(type, payload, payload.t);
    } else {
      record(OPCODES[payload.op], payload, `op ${payload.op}`);
      if (payload.op === 10) {
        this.send(this.identify);
      }
    }
    this.seen.push(payload);
    this.waiting = this.waiting.filter((wait) => !wait());
  }

  send(payload) {
    this.socket.send(JSON.stringify(payload));
  }

  /** Resolves once a payload that fits has come (again). */
  async until(what, fits = () => true) {
    const from = this.from ?? 0;
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come`)), 10_000);
      const look = () => {
        const at = this.seen.findIndex(
          (payload, index) => index >= from && (payload.t ?? `op ${payload.op}`) === what && fits(payload.d),
        );
        if (at === -1) {
          return false;
        }
        clearTimeout(timer);
        this.from = at + 1;
        resolve(this.seen[at].d);
        return true;
      };
      if (!look()) {
        this.waiting.push(look);
      }
    });
  }
}

const token = "sim-token";
const properties = { os: "linux", browser: "check", device: "check" };
const identify = (data) => ({ op: 2, d: { token, properties, intents: 1 + 2 + 128, ...data } });

async function dispatches() {
  await sim.control("POST", "voice", { guildId: GUILD, userId: ADA, channelId: LOUNGE, selfMute: true });
  let bot = new Bot(identify({ shard: [0, 1] }));
  await bot.until("GUILD_CREATE");
  const everybody = new Bot(identify({ intents: 1 + 128 + 256, capabilities: 1 << 15 }));
  await everybody.until("GUILD_CREATE");

  await sim.control("POST", "voice", { guildId: GUILD, userId: ADA, channelId: STAFF_ROOM, selfStream: true, selfVideo: true, deaf: true });
  await sim.control("POST", "voice", { guildId: GUILD, userId: "4242", channelId: LOUNGE });
  await bot.until("GUILD_MEMBER_ADD");
  await sim.control("POST", "voice", { guildId: GUILD, userId: ADA, channelId: null });
  await bot.until("VOICE_STATE_UPDATE", (state) => state.channel_id === null);
  await sim.control("POST", "members", { guildId: GUILD, userId: ADA, roles: [STAFF_ROLE] });
  await sim.control("POST", "members", { guildId: GUILD, userId: BOT, roles: [BOT_ROLE, STAFF_ROLE] });
  await bot.until("GUILD_MEMBER_UPDATE");
  await everybody.until("CHANNEL_UPDATE");
  await sim.control("POST", "roles", { guildId: GUILD, roleId: "555", permissions: "1024", name: "Guests" });
  await sim.control("POST", "roles", { guildId: GUILD, roleId: "555", permissions: "0" });
  await sim.control("POST", "roles", { guildId: GUILD, roleId: "555", delete: true });
  await bot.until("GUILD_ROLE_DELETE");
  await sim.control("PATCH", `guilds/${GUILD}`, { name: "Another name" });
  await bot.until("GUILD_UPDATE");
  for (const type of [0, 2, 4, 13]) {
    const overwrites = [{ id: GUILD, type: 0, deny: "1024" }, { id: BOT, type: 1, allow: "1024" }];
    const parentId = type === 4 ? null : CATEGORY;
    const { channelId } = await sim.control("POST", "channels", { guildId: GUILD, name: "Room", type, parentId, overwrites });
    if (type === 2 || type === 13) {
      await sim.control("POST", "voice", { guildId: GUILD, userId: ADA, channelId });
      await sim.control("PATCH", `channels/${channelId}`, { status: "Reading" });
      await sim.control("PATCH", `channels/${channelId}`, { status: null });
    }
    await sim.control("PATCH", `channels/${channelId}`, { overwrites: [{ id: GUILD, type: 0, deny: "1024" }] });
    await sim.control("DELETE", `channels/${channelId}`);
    await bot.until("CHANNEL_DELETE");
  }
  bot.send({ op: 1, d: bot.seq });
  await bot.until("op 11");
  bot.send({ op: 8, d: { guild_id: GUILD, query: "", limit: 0, nonce: "all" } });
  bot.send({ op: 8, d: { guild_id: GUILD, user_ids: [ADA, "99"], limit: 0 } });
  await bot.until("GUILD_MEMBERS_CHUNK", (chunk) => chunk.not_found !== undefined);
  bot.send({ op: 31, d: { guild_ids: [GUILD] } });
  await bot.until("SOUNDBOARD_SOUNDS");
  bot.send({ op: 4, d: { guild_id: GUILD, channel_id: LOUNGE, self_mute: true, self_deaf: true } });
  await bot.until("VOICE_SERVER_UPDATE");
  await sim.control("PATCH", `channels/${LOUNGE}`, { status: "Reading" });
  bot.send({ op: 43, d: { guild_id: GUILD, fields: ["status", "voice_start_time"] } });
  await bot.until("CHANNEL_INFO");
  bot.send({ op: 43, d: { guild_id: GUILD, fields: [] } });
  await bot.until("CHANNEL_INFO");
  await sim.control("POST", "gateway", { action: "heartbeat" });
  await bot.until("op 1");
  await sim.control("POST", "gateway", { action: "outage", guildId: GUILD, seconds: 0.1 });
  await bot.until("GUILD_DELETE");
  await bot.until("GUILD_CREATE");

  const { session, seq } = bot;
  await sim.control("POST", "gateway", { action: "drop", session });
  await bot.closed;
  bot = new Bot({ op: 6, d: { token, session_id: session, seq } });
  await bot.until("RESUMED");
  await sim.control("POST", "gateway", { action: "reconnect" });
  await bot.until("op 7");
  await bot.closed;
  bot = new Bot(identify({}));
  await bot.until("GUILD_CREATE");
  await sim.control("POST", "gateway", { action: "invalidate", resumable: true });
  await bot.until("op 9");
  bot.send(identify({}));
  await bot.until("READY");
  return bot;
}

async function interactions(bot) {
  const slash = (data) => ({ interaction: { type: 2, guild_id: GUILD, data: { id: "1", type: 1, name: "room", ...data } } });
  const option = { type: 1, name: "create", options: [{ type: 3, name: "name", value: "Reading" }] };
  const message = {
    content: "Opened",
    embeds: [{ title: "A room", fields: [{ name: "n", value: "v" }] }],
    components: [{ type: 1, components: [{ type: 2, style: 1, label: "Join", custom_id: "join" }] }],
  };
  for (const [answer, expects] of [[{ type: 4, data: message }, "with"], [{ type: 5, data: { flags: 64 } }, "with"], [{ type: 5 }, "without"]]) {
    await sim.control("POST", "interactions", slash({ options: [option] }));
    const interaction = await bot.until("INTERACTION_CREATE");
    const query = expects === "with" ? "?with_response=true" : "";
    const callback = `/interactions/${interaction.id}/${interaction.token}/callback${query}`;
    await call("POST", callback, answer, expects === "with" ? "RESTPostAPIInteractionCallbackWithResponseResult" : "RESTPostAPIInteractionCallbackResult");
    await call("POST", callback, answer, "RESTError");
    const base = `/webhooks/${BOT}/${interaction.token}`;
    await call("GET", `${base}/messages/@original`, undefined, "RESTGetAPIInteractionOriginalResponseResult");
    await call("PATCH", `${base}/messages/@original`, { content: "Changed" }, "RESTPatchAPIInteractionOriginalResponseResult");
    await call("POST", base, { content: "More" }, "RESTPostAPIInteractionFollowupResult");
    await call("DELETE", `${base}/messages/@original`, undefined, "RESTDeleteAPIInteractionOriginalResponseResult");
    await call("GET", `${base}/messages/@original`, undefined, "RESTError");
  }
  await call("POST", "/interactions/1/nobody/callback", { type: 5 }, "RESTError");
  await call("GET", `/webhooks/${BOT}/nobody/messages/@original`, undefined, "RESTError");
  await sim.control("POST", "interactions", { interaction: { type: 2, data: { id: "1", type: 1, name: "room" }, context: 1, channel_id: "5", channel: { id: "5", type: 1, name: null, flags: 0 } } });
  await bot.until("INTERACTION_CREATE");
}

async function call(method, path, body, type, headers = {}) {
  const answer = await sim.rest(method, path, body, headers);
  record(type, answer.body, `${method} ${path}`);
  answers.push({ method, path: path.split("?")[0], ...answer });
  return answer.body;
}

async function rest() {
  const own = `/guilds/${GUILD}/voice-states/@me`;
  await sim.control("POST", "voice", { guildId: GUILD, userId: BOT, channelId: null });
  for (const path of [`/users/99`, `/guilds/99`, `/guilds/nine`, `/guilds/${GUILD}/members/99`, `/guilds/${GUILD}/voice-states/99`, own, "/channels/99"]) {
    await call("GET", path, undefined, "RESTError");
  }
  await call("GET", "/users/@me", undefined, "RESTError", { authorization: "" });
  await call("PATCH", `/channels/${LOUNGE}`, { user_limit: 500 }, "RESTError");
  await call("POST", `/guilds/${GUILD}/channels`, { permission_overwrites: [{ id: "x" }] }, "RESTError");
  await call("GET", "/gateway", undefined, "RESTGetAPIGatewayResult");
  await call("GET", "/gateway/bot", undefined, "RESTGetAPIGatewayBotResult");
  await call("GET", "/users/@me", undefined, "RESTGetAPICurrentUserResult");
  await call("GET", `/users/${ADA}`, undefined, "RESTGetAPIUserResult");
  await call("GET", "/applications/@me", undefined, "RESTGetCurrentApplicationResult");
  await call("GET", "/oauth2/applications/@me", undefined, "RESTGetAPIOAuth2CurrentApplicationResult");
  await call("GET", `/guilds/${GUILD}`, undefined, "RESTGetAPIGuildResult");
  await call("GET", `/guilds/${GUILD}?with_counts=true`, undefined, "RESTGetAPIGuildResult");
  await call("GET", `/guilds/${GUILD}/roles`, undefined, "RESTGetAPIGuildRolesResult");
  await call("GET", `/guilds/${GUILD}/members/${ADA}`, undefined, "RESTGetAPIGuildMemberResult");
  await sim.control("POST", "voice", { guildId: GUILD, userId: ADA, channelId: LOUNGE });
  await sim.control("POST", "voice", { guildId: GUILD, userId: BOT, channelId: LOUNGE });
  await call("PATCH", `/guilds/${GUILD}/members/${ADA}`, { mute: true }, "RESTPatchAPIGuildMemberResult");
  await call("GET", `/guilds/${GUILD}/voice-states/${ADA}`, undefined, "RESTGetAPIGuildVoiceStateUserResult");
  await call("GET", own, undefined, "RESTGetAPIGuildVoiceStateCurrentMemberResult");
  await call("GET", `/guilds/${GUILD}/members/${BOT}`, undefined, "RESTGetAPIGuildMemberResult");
  // The types know these only as channels of any kind: each is held against its own.
  for (const channel of await call("GET", `/guilds/${GUILD}/channels`, undefined, "unknown")) {
    record("RESTGetAPIChannelResult", channel, "GET /guilds/*/channels");
  }
  const hidden = { name: "Hidden", type: 2, permission_overwrites: [{ id: GUILD, type: 0, deny: "1024" }] };
  const { id: unseen } = await call("POST", `/guilds/${GUILD}/channels`, hidden, "RESTPostAPIGuildChannelResult");
  await call("GET", `/channels/${unseen}`, undefined, "RESTError");
  await call("DELETE", `/channels/${unseen}`, undefined, "RESTError");
  for (const type of [0, 2, 4, 13]) {
    const made = await call("POST", `/guilds/${GUILD}/channels`, { name: "Room", type, user_limit: 4, topic: "Books" }, "RESTPostAPIGuildChannelResult");
    await call("GET", `/channels/${made.id}`, undefined, "RESTGetAPIChannelResult");
    await call("PATCH", `/channels/${made.id}`, { name: "Other", nsfw: true }, "RESTPatchAPIChannelResult");
    await call("PATCH", `/channels/${made.id}`, { name: "Third" }, "RESTPatchAPIChannelResult");
    await call("PATCH", `/channels/${made.id}`, { name: "Fourth" }, "RESTRateLimit");
    await call("DELETE", `/channels/${made.id}`, undefined, "RESTDeleteAPIChannelResult");
    await call("GET", `/channels/${made.id}`, undefined, "RESTError");
  }
  const log = `/guilds/${GUILD}/audit-logs`;
  await call("GET", `${log}?limit=100`, undefined, "RESTGetAPIAuditLogResult");
  await call("GET", `${log}?after=0&action_type=10&user_id=${BOT}`, undefined, "RESTGetAPIAuditLogResult");
  await call("GET", `${log}?limit=0&action_type=9&before=x`, undefined, "RESTError");
  await call("POST", `/channels/${LOUNGE}/invites`, { max_age: 600 }, "RESTPostAPIChannelInviteResult");
  await call("POST", `/channels/${LOUNGE}/invites`, { max_uses: 101 }, "RESTError");
  await call("PUT", `/channels/${LOUNGE}/voice-status`, { status: "Reading" }, "undefined");
  await call("POST", `/guilds/${GUILD}/channels`, { name: "", user_limit: -1, type: 2, permission_overwrites: [{ id: "x" }] }, "RESTError");
  await call("GET", "/nothing", undefined, "RESTError");
  const room = {
    name: "room",
    description: "Voice rooms",
    default_member_permissions: "16",
    contexts: [0],
    options: [
      { type: 1, name: "create", description: "Open one", options: [
        { type: 3, name: "name", description: "Its name", max_length: 100 },
        { type: 4, name: "limit", description: "How many", min_value: 0, max_value: 99 }] },
      { type: 1, name: "list", description: "Which are open" },
    ],
  };
  for (const [base, scope] of [[`/applications/${BOT}/commands`, ""], [`/applications/${BOT}/guilds/${GUILD}/commands`, "Guild"]]) {
    const made = await call("POST", base, room, `RESTPostAPIApplication${scope}CommandsResult`);
    await call("POST", base, room, `RESTPostAPIApplication${scope}CommandsResult`);
    await call("POST", base, { name: "No Good" }, "RESTError");
    await call("PUT", base, [{ name: "x" }], "RESTError");
    await call("GET", base, undefined, `RESTGetAPIApplication${scope}CommandsResult`);
    await call("GET", `${base}?with_localizations=true`, undefined, `RESTGetAPIApplication${scope}CommandsResult`);
    await call("PUT", base, [room, { name: "Who is this", type: 2 }], `RESTPutAPIApplication${scope}CommandsResult`);
    await call("GET", `${base}/${made.id}`, undefined, `RESTGetAPIApplication${scope}CommandResult`);
    await call("PATCH", `${base}/${made.id}`, { description: "Other" }, `RESTPatchAPIApplication${scope}CommandResult`);
    await call("DELETE", `${base}/${made.id}`, undefined, "undefined");
    await call("GET", `${base}/${made.id}`, undefined, "RESTError");
  }
  for (const status of [400, 403, 404, 429]) {
    await sim.control("POST", "rest", { match: "GET /gateway/bot", status });
    await call("GET", "/gateway/bot", undefined, status === 429 ? "RESTRateLimit" : "RESTError");
  }
}

/** Literals that are wrong in one way each. */
function damaged() {
  const of = (type, fits = () => true) => structuredClone([...records.values()].find((held) => held.type === type && fits(held.value)).value);
  const voice = of("GatewayVoiceStateUpdateDispatch");
  const guild = of("GatewayGuildCreateDispatch");
  const channel = of("GatewayChannelCreateDispatch", (value) => value.d.type === 2);
  const without = (value, field) => ({ ...value, d: Object.fromEntries(Object.entries(value.d).filter(([key]) => key !== field)) });
  const withField = (value, field, inner) => ({ ...value, d: { ...value.d, [field]: inner } });
  return [
    ["GatewayVoiceStateUpdateDispatch", without(voice, "session_id"), "a missing field"],
    ["GatewayVoiceStateUpdateDispatch", withField(voice, "mute", "yes"), "a wrong type"],
    ["GatewayVoiceStateUpdateDispatch", withField(voice, "muted", true), "a field too many"],
    ["GatewayVoiceStateUpdateDispatch", { ...voice, t: "VOICE_STATE_UPDATED" }, "a wrong name"],
    ["GatewayGuildCreateDispatch", withField(guild, "afk_timeout", 301), "a number that is no choice"],
    ["GatewayGuildCreateDispatch", withField(guild, "preferred_locale", "xx-XX"), "a string that is no choice"],
    ["GatewayGuildCreateDispatch", withField(guild, "owner_id", 1), "a number for an id"],
    ["GatewayChannelCreateDispatch", withField(channel, "type", 99), "a channel of no type"],
    ["RESTError", { message: "x" }, "an error without its code"],
  ];
}

const PRELUDE = `import type * as D from "discord-api-types/v10";
// Enums of bits take any sum of them; enums of strings take the strings themselves.
type Bits = D.ApplicationFlags | D.ChannelFlags | D.GuildMemberFlags | D.GuildSystemChannelFlags | D.MessageFlags
  | D.RoleFlags | D.UserFlags;
type Sent<T> = T extends string ? \`\${T}\` : T extends Bits ? number
  : T extends number | boolean | null | undefined ? T : { [K in keyof T]: Sent<T[K]> };
`;
// d is null on the wire where these types leave it out, and RESUMED brings the trace that the types leave out.
const asTyped = (type, literal) =>
  ["GatewayHeartbeatRequest", "GatewayReconnect", "GatewayHeartbeatAck"].includes(type)
    ? literal.replace('"d":null', '"d":undefined')
    : type === "GatewayResumedDispatch"
      ? literal.replace('"d":{"_trace":["discord-sim"]}', '"d":undefined')
      : literal;
const typeName = (type) => (["undefined", "unknown"].includes(type) ? type : `Sent<D.${type}>`);

function judge() {
  const folder = mkdtempSync(join(tmpdir(), "discord-sim-types-"));
  try {
    symlinkSync(join(here, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    const lines = (entries) =>
      PRELUDE + entries.map(([type, literal], index) => `export const n${index}: ${typeName(type)} = ${asTyped(type, literal)};`).join("\n");
    const good = [...records.values()];
    const bad = damaged();
    writeFileSync(join(folder, "sent.ts"), lines(good.map(({ type, literal }) => [type, literal])));
    writeFileSync(join(folder, "damaged.ts"), lines(bad.map(([type, value]) => [type, JSON.stringify(value)])));
    const options = ["--noEmit", "--strict", "--pretty", "false", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--noErrorTruncation"];
    const tsc = join(here, "node_modules/typescript/bin/tsc");
    const run = spawnSync(process.execPath, [tsc, ...options, "sent.ts", "damaged.ts"], { cwd: folder, encoding: "utf8", maxBuffer: 1 << 27 });
    const output = `${run.stdout}${run.stderr}`;
    const first = PRELUDE.split("\n").length;
    const wrong = { sent: new Map(), damaged: new Map() };
    let stray = "";
    for (const line of output.split("\n").filter((line) => /error TS/.test(line))) {
      const found = /^(sent|damaged)\.ts\((\d+),\d+\): (.*)$/.exec(line);
      const index = found ? Number(found[2]) - first : -1;
      if (index < 0) {
        stray += `${line}\n`;
      } else {
        wrong[found[1]].set(index, found[3]);
      }
    }
    if (stray !== "" || (run.status !== 0 && wrong.sent.size + wrong.damaged.size === 0)) {
      throw new Error(`the compiler failed: ${stray || output}`);
    }
    const failures = [
      ...[...wrong.sent].map(([index, why]) => `${good[index].label} as ${good[index].type}: ${why.slice(0, 900)}`),
      ...bad.flatMap(([type, , how], index) => (wrong.damaged.has(index) ? [] : [`${type} with ${how} was let through`])),
    ];
    return { failures, checked: good.length + bad.length };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const fits = (pattern, path, wild) => {
  const [parts, segments] = [pattern.split("/"), path.split("/")];
  return parts.length === segments.length && parts.every((part, at) => wild(part) || part === segments[at]);
};

/** What Discord's OpenAPI description finds wrong with the REST answers, and with its own damaged ones. */
function described() {
  const file = process.env.DISCORD_OPENAPI;
  if (!file) {
    console.log("SKIPPED: DISCORD_OPENAPI is not set; REST was not checked against Discord's OpenAPI");
    return [];
  }
  const document = JSON.parse(readFileSync(file, "utf8"));
  const ajv = new Ajv({ strict: false, logger: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(document, "discord");
  const validators = new Map();
  const wrong = (pointer, body) => {
    if (!validators.has(pointer)) {
      validators.set(pointer, ajv.compile({ $ref: `discord#${pointer}` }));
    }
    const validate = validators.get(pointer);
    return validate(body) ? [] : validate.errors.map((error) => `${error.message} at ${error.instancePath}`);
  };
  const at = (pointer) => pointer.split("/").slice(1).reduce((value, key) => value?.[key.replaceAll("~1", "/")], document);
  const failures = [];
  const isName = (part) => part.startsWith("{");
  for (const { method, path, status, body } of answers) {
    const templates = Object.keys(document.paths).filter((template) => fits(template, path, isName));
    // `/users/@me` before `/users/{user_id}`.
    const [template] = templates.sort((one, other) => one.split("{").length - other.split("{").length);
    if (template === undefined) {
      if (path !== "/nothing") {
        failures.push(`${method} ${path} is not in the description`);
      }
      continue;
    }
    const name = `${method} ${template} ${status}`;
    const responses = `/paths/${template.replaceAll("/", "~1")}/${method.toLowerCase()}/responses`;
    let pointer = [status, `${String(status)[0]}XX`].map((key) => `${responses}/${key}`).find((key) => at(key));
    if (pointer === undefined) {
      failures.push(`${name}: no such status is described`);
      continue;
    }
    pointer = at(pointer).$ref?.slice(1) ?? pointer;
    const schema = `${pointer}/content/application~1json/schema`;
    if ((at(schema) === undefined) !== (body === undefined)) {
      failures.push(`${name}: described with a body and has none, or the other way round`);
    } else if (body !== undefined) {
      failures.push(...wrong(schema, withNumberedCodes(body)).map((error) => `${name}: ${error}`));
    }
  }
  const channel = { id: "1", type: 2, flags: 0, guild_id: "1", name: "x", position: 0 };
  for (const damaged of [{ ...channel, id: 1 }, { ...channel, name: undefined }]) {
    if (wrong("/components/schemas/GuildChannelResponse", JSON.parse(JSON.stringify(damaged))).length === 0) {
      failures.push(`the description lets ${JSON.stringify(damaged)} through`);
    }
  }
  return failures;
}

/** String codes in the leaves of `errors` as numbers, see the head of this file. */
function withNumberedCodes(body) {
  const text = JSON.stringify(body, (key, value) =>
    key === "_errors" ? value.map((leaf) => ({ ...leaf, code: 0 })) : value,
  );
  return JSON.parse(text);
}

/** Routes that the simulator serves and that were not called: it names its routes when a fault fits none. */
async function uncalled() {
  const refused = await sim.control("POST", "rest", { match: "GET /no-route", status: 500 }).catch(String);
  const routes = refused.split("The routes: ")[1].match(/[A-Z]+ \/[^\s,"]*/g);
  const isWild = (part) => part === "*";
  return routes.filter((route) => {
    const [method, pattern] = route.split(" ");
    return !answers.some((answer) => answer.method === method && fits(pattern, answer.path, isWild));
  });
}

/** Dispatches that the simulator's sources name and that were not seen. */
function unseen() {
  const text = ["gateway", "interactions"]
    .flatMap((folder) => readdirSync(join(sources, folder)).map((file) => join(sources, folder, file)))
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const names = new Set([...text.matchAll(/"(READY|RESUMED|[A-Z]+(?:_[A-Z]+)+)"/g)].map((match) => match[1]));
  const seen = new Set([...records.values()].map((held) => held.label));
  return [...names].filter((name) => !seen.has(name));
}

let failures = [];
let checked = 0;
try {
  const bot = await dispatches();
  await interactions(bot);
  await rest();
  ({ failures, checked } = judge());
  failures.push(...described());
  failures.push(...unseen().map((name) => `${name} was never provoked`));
  failures.push(...(await uncalled()).map((route) => `${route} was never called`));
} catch (error) {
  failures.push(error.stack ?? String(error));
} finally {
  sim.stop();
}
for (const failure of failures) {
  console.error(`FAILED: ${failure}`);
}
console.log(`${Math.max(checked - failures.length, 0)} passed, ${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
