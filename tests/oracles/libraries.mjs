// Drives independent Discord libraries against the simulated Discord: for each, a program that
// says what it sees. What is so is made so through the control side; what the library must see of
// it, and how it must come back after a cut, is checked here.
//
// Arguments: pairs of a library's name and the command that starts its program.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { startSim } from "./sim.mjs";

const GUILD = "100000000000000001";
const LOUNGE = "100000000000000011";
const STUDY_HALL = "100000000000000012";
const GRACE = "200000000000000002";
/** How long a fact may take; a library may wait 5 s and more before it identifies again. */
const DEADLINE_MS = 40_000;

let passed = 0;
let failed = 0;

class Program {
  constructor(command, address) {
    const [file, ...args] = command.split(" ");
    this.child = spawn(file, [...args, address], { stdio: ["pipe", "pipe", "inherit"] });
    this.seen = [];
    this.from = 0;
    this.waiting = [];
    this.version = "?";
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      if (line.startsWith("{")) {
        this.seen.push(JSON.parse(line));
        this.waiting = this.waiting.filter((look) => !look());
      }
    });
  }

  send(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** The next thing of this kind that fits, after what was found before. */
  sees(kind, fits = {}) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no ${kind} ${JSON.stringify(fits)}; seen: ${JSON.stringify(this.seen.slice(-12))}`)),
        DEADLINE_MS,
      );
      const look = () => {
        const at = this.seen.findIndex(
          (thing, index) =>
            index >= this.from && thing.saw === kind && Object.entries(fits).every(([key, value]) => thing[key] === value),
        );
        if (at === -1) {
          return false;
        }
        clearTimeout(timer);
        this.from = at + 1;
        resolve(this.seen[at]);
        return true;
      };
      if (!look()) {
        this.waiting.push(look);
      }
    });
  }
}

function equal(found, expected, what) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error(`${what}: ${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
  }
}

async function check(name, what, deed) {
  try {
    await deed();
    passed++;
    console.log(`ok: ${name} ${what}`);
  } catch (error) {
    failed++;
    console.error(`FAILED: ${name} ${what}: ${error.message}`);
    // What follows builds on it.
    throw error;
  }
}

/** Asks until what is found is so. */
async function becomes(what, found) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await found())) {
    if (Date.now() > end) {
      throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function drive(name, command) {
  const sim = await startSim({ SIM_RECONNECT_GRACE_MS: "500", SIM_HEARTBEAT_MS: "5000" });
  const voice = (wish) => sim.control("POST", "voice", { guildId: GUILD, userId: GRACE, ...wish });
  const gateway = (wish) => sim.control("POST", "gateway", wish);
  const counters = async () => (await sim.control("GET", "state")).counters;
  const sessions = async () => (await sim.control("GET", "state")).sessions;
  const bot = new Program(command, sim.address);
  try {
    await check(name, "reaches ready and knows the guild and its channels", async () => {
      const ready = await bot.sees("ready");
      bot.version = ready.version;
      equal([ready.user, ready.guild], ["roomwire", "Roomwire demo"], "names");
      equal([...ready.channels].sort(), ["Lounge", "Study hall", "Voice rooms", "general", "___hidden___"].sort(), "channels");
    });
    await check(name, "sees a join, a mute, a move and a leave", async () => {
      await voice({ channelId: LOUNGE });
      await bot.sees("voice", { name: "Grace", before: null, after: "Lounge", selfMute: false });
      await voice({ selfMute: true });
      await bot.sees("voice", { name: "Grace", before: "Lounge", after: "Lounge", selfMute: true });
      await voice({ channelId: STUDY_HALL });
      await bot.sees("voice", { name: "Grace", before: "Lounge", after: "Study hall" });
      await voice({ channelId: null });
      await bot.sees("voice", { name: "Grace", before: "Study hall", after: null });
    });
    await check(name, "creates, changes and deletes a channel, and sees its echo", async () => {
      bot.send({ do: "create", name: "By the library" });
      // Without its limit: a library that keeps one object a channel may show it changed already.
      await bot.sees("created", { name: "By the library" });
      await bot.sees("updated", { name: "By the library", limit: 5 });
      await bot.sees("deleted", { name: "By the library" });
      const { auditLog } = await sim.control("GET", "state");
      equal(auditLog[0].reason, "Für den Test", "reason");
    });
    await check(name, "understands a refusal", async () => {
      bot.send({ do: "refused" });
      await bot.sees("refused", { code: 50035, status: 400 });
    });
    await check(name, "registers a command", async () => {
      bot.send({ do: "commands" });
      equal((await bot.sees("commands")).names, ["room"], "commands");
    });
    await check(name, "waits out a rate limit", async () => {
      await sim.control("POST", "rest", { match: "POST /guilds/*/channels", status: 429, retryAfter: 0.3, times: 2 });
      bot.send({ do: "create", name: "After a while" });
      await bot.sees("created", { name: "After a while" });
      await bot.sees("deleted", { name: "After a while" });
    });
    for (const [how, wish] of [
      ["a cut connection", { action: "drop" }],
      ["close 4000", { action: "close", code: 4000 }],
      ["op 7", { action: "reconnect" }],
      ["op 9 with d: true", { action: "invalidate", resumable: true }],
    ]) {
      await check(name, `resumes after ${how} and misses nothing`, async () => {
        const before = await counters();
        await gateway(wish);
        await voice({ channelId: LOUNGE });
        await bot.sees("voice", { name: "Grace", before: null, after: "Lounge" });
        await becomes("resumed", async () => (await counters()).resumed > before.resumed);
        await voice({ channelId: null });
        await bot.sees("voice", { name: "Grace", before: "Lounge", after: null });
        const after = await counters();
        equal([after.identify, after.resumed], [before.identify, before.resumed + 1], "identifies and resumes");
      });
    }
    await check(name, "identifies again after op 9 with d: false", async () => {
      const former = new Set((await sessions()).map(({ session }) => session));
      await gateway({ action: "invalidate", resumable: false });
      await becomes("another session", async () =>
        (await sessions()).some(({ session, connected }) => connected && !former.has(session)),
      );
      await voice({ channelId: STUDY_HALL });
      await bot.sees("voice", { name: "Grace", after: "Study hall" });
    });
    await check(name, "survives an outage and odd dispatches", async () => {
      await gateway({ action: "outage", guildId: GUILD, seconds: 0.3 });
      await bot.sees("unavailable");
      await bot.sees("available");
      await gateway({ action: "odd" });
      await voice({ channelId: LOUNGE });
      await bot.sees("voice", { name: "Grace", after: "Lounge" });
    });
    await check(name, "heartbeats and was never closed for a mistake", async () => {
      await becomes("a heartbeat", async () => (await counters()).heartbeats > 0);
      const { closed } = await counters();
      equal(Object.keys(closed).filter((code) => code !== "4000"), [], "closes");
    });
  } finally {
    bot.child.kill("SIGKILL");
    sim.stop();
    console.log(`${name} ${bot.version}`);
  }
}

const libraries = process.argv.slice(2);
for (let index = 0; index + 1 < libraries.length; index += 2) {
  try {
    await drive(libraries[index], libraries[index + 1]);
  } catch {
    // Counted and reported already, unless it failed before that.
    if (failed === 0) {
      failed++;
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
