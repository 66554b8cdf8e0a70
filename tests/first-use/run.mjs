// A front-end developer's first use, timed: what README.md says under "In your own React app", in a fresh clone.
//
// Every command and every line of the page comes from the clone's README.md; this file adds none. It waits for what
// the README promises, looks at the pages in Chromium, and compares them with the simulated Discord.
//
// FIRST_USE_TARGET   a cargo folder to reuse; without it, all of Rust is built as for a new user
// CHROMIUM           default: /usr/bin/chromium
//
// Needs the demo's ports and 5173 on loopback, and the registries of cargo and npm. The last line is `N passed, N failed`.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const place = mkdtempSync(join(tmpdir(), "roomwire-first-use-"));
const clone = join(place, "roomwire");
const app = join(place, "my-app");
/** How long Rust may take to build, and how long everything else, milliseconds. */
const BUILD_MS = 60 * 60_000;
const STEP_MS = 5 * 60_000;
/** Discord's type of a voice channel; and the one of the demo that only staff may view. */
const VOICE = 2;
const STAFF_ROOM = "100000000000000013";

const running = [];
const figures = [];
let passed = 0;
let failed = 0;

// The shell that a developer has: no variables of the npm that may run this.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
if (process.env.FIRST_USE_TARGET) env.CARGO_TARGET_DIR = resolve(process.env.FIRST_USE_TARGET);

try {
  await firstUse();
} catch (error) {
  console.error(error.message);
} finally {
  for (const program of running.reverse()) await program.end();
  rmSync(place, { recursive: true, force: true });
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

async function firstUse() {
  await step("clone", () => commands(place, `git clone --quiet "${root}" roomwire`));
  const readme = readFileSync(join(clone, "README.md"), "utf8");
  const [, move] = blocks(section(readme, "Try it"), "sh");
  const own = section(readme, "In your own React app");
  const [demo, install, dev, example, ...more] = blocks(own, "sh");
  const [page, ...pages] = blocks(own, "tsx");
  if (!move || !example || !page || more.length + pages.length > 0)
    throw new Error('README.md, "In your own React app", has other blocks than this test expects.');
  const [origin] = /http:\/\/localhost:\d+/.exec(demo);

  await step("the demo with the page's origin", () =>
    begin(clone, demo, /Roomwire is running/, BUILD_MS).then(({ said }) => {
      if (!said.includes(`Pages of ${origin} may connect`)) throw new Error(`the demo did not name ${origin}: ${said}`);
    }),
  );
  await step("a new Vite app with the SDK", () => commands(place, install));

  const { chromium } = createRequire(join(clone, "web/package.json"))("@playwright/test");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
  running.push({ end: () => browser.close() });
  const tab = await browser.newPage();
  const broken = [];
  tab.on("pageerror", (error) => broken.push(error.message));

  const server = await step("rooms live on one's own page", async () => {
    writeFileSync(join(app, "src/App.tsx"), page);
    const server = await begin(app, dev, /Local:/, STEP_MS);
    await tab.goto(origin);
    await becomes("the page shows who is where", async () => (await counts(tab)) === (await truth()) && (await truth()) !== "");
    return server;
  });
  await step("a member's move on the page", async () => {
    const before = await counts(tab);
    // People move by themselves too; the command of the README sees to it that somebody does.
    commands(place, move);
    await becomes("the page shows the move", async () => (await counts(tab)) === (await truth()));
    await becomes("another picture than before", async () => (await counts(tab)) !== before);
  });
  await check("the app's own build accepts the page and the SDK's types", () => commands(app, "npm run build"));
  await server.end();

  await step("a room opened and ended on the page", async () => {
    await begin(place, example, /Local:/, STEP_MS);
    await tab.goto(origin);
    const name = "First use";
    const opened = tab.getByRole("listitem").filter({ hasText: name });
    await tab.getByPlaceholder("Name").fill(name);
    await tab.getByRole("button", { name: "Open a room" }).click();
    await becomes("the room is on the page and in Discord", async () => (await opened.count()) === 1 && (await roomNames()).includes(name));
    await opened.getByRole("button", { name: "End" }).click();
    await becomes("it is gone from both", async () => (await opened.count()) === 0 && !(await roomNames()).includes(name));
  });
  await check("no page threw an error", () => {
    if (broken.length > 0) throw new Error(broken.join("\n"));
  });

  const total = figures.reduce((sum, [, seconds]) => sum + seconds, 0);
  console.log(`\nfrom the clone to a room opened and ended: ${total.toFixed(0)} s`);
  if (process.env.FIRST_USE_TARGET) console.log("(Rust was not built from nothing: FIRST_USE_TARGET)");
}

/** One step of the developer's path, timed. */
async function step(title, deed) {
  const begun = performance.now();
  return check(title, deed, () => {
    const seconds = (performance.now() - begun) / 1000;
    figures.push([title, seconds]);
    return ` (${seconds.toFixed(1)} s)`;
  });
}

async function check(title, deed, note = () => "") {
  try {
    const result = await deed();
    passed++;
    console.log(`ok: ${title}${note()}`);
    return result;
  } catch (error) {
    failed++;
    // The next step builds on this one.
    throw new Error(`FAILED: ${title}: ${error.message}`);
  }
}

function section(document, title) {
  const from = document.indexOf(`\n## ${title}\n`);
  const to = document.indexOf("\n## ", from + 1);
  return from === -1 ? "" : document.slice(from, to === -1 ? undefined : to);
}

function blocks(text, language) {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map((match) => match[1]);
}

/** Runs commands as they stand, one after the other, in a shell. */
function commands(cwd, text) {
  const done = spawnSync("bash", ["-e", "-c", text], {
    cwd,
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: STEP_MS,
  });
  if (done.status !== 0) throw new Error(`${text}ended with ${done.status}:\n${done.stdout}${done.stderr}`);
}

/** Runs commands of which the last one stays, and waits for what it says. */
async function begin(cwd, text, what, deadlineMs) {
  const child = spawn("bash", ["-e", "-c", text], {
    cwd,
    env: { ...env, NO_COLOR: "1" },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const program = {
    said: "",
    ended: new Promise((done) => child.once("close", done)),
    async end() {
      // The shell and what it started: a group of its own.
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGTERM");
      await this.ended;
    },
  };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (program.said += text));
  running.push(program);
  await becomes(`${text}says ${what}`, () => {
    if (child.exitCode !== null) throw new Error(`${text}ended with ${child.exitCode}:\n${program.said}`);
    return what.test(program.said);
  }, deadlineMs).catch((error) => {
    throw new Error(`${error.message}\n${program.said.slice(-4000)}`);
  });
  return program;
}

async function becomes(what, holds, deadlineMs = 60_000) {
  for (const end = Date.now() + deadlineMs; !(await holds()); ) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs / 1000} s: ${what}`);
    await new Promise((later) => setTimeout(later, 100));
  }
}

/** The voice rooms that everybody may see, as the README's page writes them. */
async function truth() {
  const channels = Object.entries(await channelsNow()).filter(([id, { type }]) => type === VOICE && id !== STAFF_ROOM);
  return lines(channels.map(([, { name, members }]) => `${name}: ${Object.keys(members).length}`));
}

async function channelsNow() {
  const { guilds } = await (await fetch("http://127.0.0.1:3900/_sim/state")).json();
  return guilds["100000000000000001"].channels;
}

async function roomNames() {
  return Object.values(await channelsNow()).map(({ name }) => name);
}

async function counts(tab) {
  return lines((await tab.locator("p").allTextContents()).filter((text) => /: \d+$/.test(text)));
}

function lines(texts) {
  return texts.sort().join("\n");
}
