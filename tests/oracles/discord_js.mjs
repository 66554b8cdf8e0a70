// A bot on discord.js. Writes what it sees to standard output, and reads commands from standard input: one
// JSON object per line.

import { ChannelType, Client, GatewayIntentBits, version } from "discord.js";
import { createInterface } from "node:readline";

const [address] = process.argv.slice(2);
const say = (saw, more = {}) => console.log(JSON.stringify({ saw, ...more }));

const client = new Client({
  intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildVoiceStates],
  rest: { api: `http://${address}/api` },
});
const place = (state) => state.channel?.name ?? null;

client.on("clientReady", () => {
  const guild = client.guilds.cache.first();
  say("ready", { version, user: client.user.username, guild: guild.name, channels: guild.channels.cache.map((c) => c.name).sort() });
});
client.on("voiceStateUpdate", (before, after) =>
  say("voice", { name: after.member?.displayName, before: place(before), after: place(after), selfMute: after.selfMute }),
);
client.on("channelCreate", (channel) => say("created", { name: channel.name, limit: channel.userLimit }));
client.on("channelUpdate", (_, channel) => say("updated", { name: channel.name, limit: channel.userLimit }));
client.on("channelDelete", (channel) => say("deleted", { name: channel.name }));
client.on("shardResume", () => say("resumed"));
client.on("guildUnavailable", () => say("unavailable"));
client.on("guildAvailable", () => say("available"));
client.on("error", (error) => say("error", { why: String(error) }));

createInterface({ input: process.stdin }).on("line", async (line) => {
  const wish = JSON.parse(line);
  const guild = client.guilds.cache.first();
  try {
    if (wish.do === "create") {
      const channel = await guild.channels.create({ name: wish.name, type: ChannelType.GuildVoice, userLimit: 3, reason: "Für den Test" });
      await channel.setUserLimit(5);
      await channel.delete("done");
      say("did");
    } else if (wish.do === "refused") {
      await guild.channels.create({ name: "x".repeat(101), type: ChannelType.GuildVoice });
    } else if (wish.do === "commands") {
      await client.application.fetch();
      const set = await client.application.commands.set([{ name: "room", description: "Voice rooms" }], guild.id);
      say("commands", { names: set.map((command) => command.name) });
    }
  } catch (error) {
    say("refused", { code: error.code, status: error.status });
  }
});
await client.login("sim-token");
