// The SDK as a package: packed in a fresh clone, and installed into an app of somebody else.
//
//   node tests/package/check.mjs         what `make test` runs
//   node tests/package/check.mjs next    a Next.js App Router project (`make audit`; installs 340 MB)
//
// Everything is made in target/package. Needs npm's registry. The last line is `N passed, N failed`.

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const work = join(resolve(root, process.env.CARGO_TARGET_DIR ?? "target"), "package");

let passed = 0;
let failed = 0;

function check(sentence, deed) {
  const begun = Date.now();
  try {
    deed();
    passed++;
    console.log(`ok: ${sentence} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed++;
    console.error(`FAILED: ${sentence}: ${error.message}`);
  }
}

/** Runs a program; `{ status, stdout, stderr }`. Variables of an npm that runs this are not passed on. */
function run(cwd, program, args, variables = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
  const done = spawnSync(program, args, {
    cwd,
    env: { ...env, ...variables },
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  if (done.error) throw done.error;
  return done;
}

/** As `run`, for what must succeed. */
function must(...call) {
  const done = run(...call);
  if (done.status !== 0) {
    const [, program, args] = call;
    throw new Error(`${[program, ...args].join(" ")} ended with ${done.status}:\n${done.stdout}${done.stderr}`);
  }
  return done.stdout;
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

function emptied(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The web part as a fresh clone has it: without what was installed or built. */
function freshClone(name) {
  const clone = emptied(join(work, name));
  const made = new Set(["node_modules", "dist", "test-results", "playwright-report"]);
  cpSync(join(root, "web"), join(clone, "web"), {
    recursive: true,
    filter: (path) => !made.has(basename(path)),
  });
  return join(clone, "web/sdk");
}

/** A folder with the packages of `from`'s lockfile; kept over runs for as long as the lockfile is the same. */
function installed(name, from) {
  const folder = join(work, name);
  mkdirSync(folder, { recursive: true });
  const lock = readFileSync(join(from, "package-lock.json"), "utf8");
  const stamp = join(folder, "node_modules/.installed");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
    cpSync(join(from, "package.json"), join(folder, "package.json"));
    writeFileSync(join(folder, "package-lock.json"), lock);
    must(folder, "npm", ["ci", "--no-audit", "--no-fund"]);
    writeFileSync(stamp, lock);
  }
  return folder;
}

/** Puts the SDK beside the packages of an app: unpacked from its tarball, or as a link to its folder. */
function install(app, what) {
  rmSync(join(app, "node_modules/@roomwire"), { recursive: true, force: true });
  must(app, "npm", ["install", "--no-save", "--no-audit", "--no-fund", what]);
}

/** What is packed: the one line on stdout, in `into`. */
function pack(sdk, into, variables) {
  const done = run(into, "npm", ["pack", "--silent", sdk], variables);
  return { ...done, tarball: join(into, done.stdout.trim()) };
}

const sdk = freshClone("clone");
const tarballs = emptied(join(work, "tarballs"));
let tarball;

check("npm pack in a fresh clone packs the built files, and prints the tarball's name alone", () => {
  const packed = pack(sdk, tarballs);
  expect(packed.status === 0, packed.stderr);
  expect(/^roomwire-sdk-[0-9.]+\.tgz\n$/.test(packed.stdout), `stdout: ${packed.stdout}`);
  tarball = packed.tarball;
  const files = must(tarballs, "tar", ["-tzf", tarball]).split("\n");
  for (const entry of ["index", "react/index"])
    for (const file of [`dist/${entry}.js`, `dist/${entry}.d.ts`, `dist/cjs/${entry}.js`, `dist/cjs/${entry}.d.ts`])
      expect(files.includes(`package/${file}`), `${file} is missing`);
  expect(!files.some((file) => /\/(src|test)\/|tsconfig|build\.mjs/.test(file)), `too much: ${files.join(" ")}`);
});

if (!tarball) {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(1);
}

if (process.argv.includes("next")) nextProject();
else ordinaryApps();

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

function ordinaryApps() {
  check("the package has the project's licences, word for word", () => {
    for (const name of ["LICENSE", "LICENSE-MIT", "LICENSE-APACHE"]) {
      const inside = must(tarballs, "tar", ["-xzOf", tarball, `package/${name}`]);
      expect(inside === readFileSync(join(root, name), "utf8"), `${name} differs from the project's`);
    }
  });

  check("a type error in a clone ends npm pack with its place, and leaves nothing half built", () => {
    const file = join(sdk, "src/index.ts");
    const source = readFileSync(file, "utf8");
    writeFileSync(file, `${source}export const wrong: number = 'text'\n`);
    const packed = pack(sdk, tarballs);
    writeFileSync(file, source);
    expect(packed.status !== 0, "it packed");
    expect(/src\/index\.ts.*TS2322/.test(packed.stderr), `no place: ${packed.stderr}`);
    expect(/@roomwire\/sdk cannot be built: /.test(packed.stderr), `no reason: ${packed.stderr}`);
    expect(!existsSync(join(sdk, "dist")), "dist is left");
  });

  check("a clone whose tools cannot be installed ends npm pack with a reason and a command", () => {
    const away = freshClone("clone-without-registry");
    const packed = pack(away, tarballs, {
      // Nothing listens on port 9 of loopback.
      npm_config_registry: "http://127.0.0.1:9/",
      npm_config_cache: emptied(join(work, "empty-cache")),
      npm_config_fetch_retries: "0",
    });
    expect(packed.status !== 0, "it packed");
    expect(/cannot be built: its tools could not be installed\. Run: npm --prefix /.test(packed.stderr), packed.stderr);
  });

  check("npm ci of the workspace does not build the SDK, and npm pack in the workspace does", () => {
    must(dirname(sdk), "npm", ["ci", "--no-audit", "--no-fund", "--prefer-offline"]);
    expect(!existsSync(join(sdk, "dist")), "npm ci built it");
    must(dirname(sdk), "npm", ["pack", "--silent", "-w", "@roomwire/sdk", "--pack-destination", tarballs]);
    expect(existsSync(join(sdk, "dist/index.js")), "npm pack -w built nothing");
  });

  const app = installed("app", here);

  check("publint finds nothing to say", () => {
    const program = `
      import { publint } from "publint";
      import { formatMessage } from "publint/utils";
      import { readFileSync } from "node:fs";
      const [file] = process.argv.slice(-1);
      const tarball = new Uint8Array(readFileSync(file)).buffer;
      const { messages, pkg } = await publint({ pack: { tarball }, strict: true });
      for (const message of messages) console.log(message.type + ": " + formatMessage(message, pkg, { color: false }));
    `;
    const said = must(app, "node", ["--input-type=module", "-e", program, tarball]);
    expect(said === "", said);
  });

  check("arethetypeswrong finds no wrong types, for whichever way a project resolves modules", () => {
    must(app, "node_modules/.bin/attw", [tarball, "--profile", "strict", "--no-emoji", "--format", "ascii"]);
  });

  check("the React entry begins with 'use client', as a module and as CommonJS", () => {
    const module = must(tarballs, "tar", ["-xzOf", tarball, "package/dist/react/index.js"]);
    expect(/^['"]use client['"]/.test(module), module.slice(0, 80));
    const commonJs = must(tarballs, "tar", ["-xzOf", tarball, "package/dist/cjs/react/index.js"]);
    expect(/^"use strict";\n['"]use client['"]/.test(commonJs), commonJs.slice(0, 80));
  });

  install(app, tarball);

  check("Node can import and require both entries", () => {
    for (const [type, program] of [
      ["module", 'const s = await import("@roomwire/sdk"), r = await import("@roomwire/sdk/react");'],
      ["commonjs", 'const s = require("@roomwire/sdk"), r = require("@roomwire/sdk/react");'],
    ])
      must(app, "node", [`--input-type=${type}`, "-e", `${program} if (!s.createRoomwire || !r.useRooms) throw 1;`]);
  });

  check("a listener that throws in Node is uncaught with its own error", () => {
    const done = run(app, "node", [
      "--input-type=module",
      "-e",
      `import { createRoomwire } from "@roomwire/sdk";
       const roomwire = createRoomwire({ url: "http://127.0.0.1:9", getToken: async () => "token" });
       roomwire.onChange(() => { throw new Error("mine") });
       roomwire.connect();`,
    ]);
    expect(done.status === 1 && /Error: mine/.test(done.stderr), `${done.status}: ${done.stderr}`);
    expect(!/reportError/.test(done.stderr), done.stderr);
  });

  // A page as an app writes it; a second React would leave the hooks without a renderer.
  const page = `
    import { createElement } from "react";
    import { renderToString } from "react-dom/server";
    import { createRoomwire } from "@roomwire/sdk";
    import { RoomwireProvider, useRooms } from "@roomwire/sdk/react";
    const roomwire = createRoomwire({ url: "http://127.0.0.1:9", getToken: async () => "token" });
    const Rooms = () => "rooms: " + useRooms().length;
    console.log(renderToString(createElement(RoomwireProvider, { roomwire }, createElement(Rooms))));
  `;
  writeFileSync(join(app, "page.js"), page);

  function esbuild(...options) {
    must(app, "node_modules/.bin/esbuild", [
      "page.js",
      "--bundle",
      "--platform=node",
      "--outfile=built/esbuild.cjs",
      "--log-level=error",
      ...options,
    ]);
    return run(app, "node", ["built/esbuild.cjs"]);
  }

  function vite(resolve = {}) {
    const config = {
      configFile: false,
      logLevel: "error",
      resolve,
      ssr: { noExternal: true },
      build: { ssr: "page.js", outDir: "built/vite", emptyOutDir: true },
    };
    must(app, "node", ["--input-type=module", "-e", `(await import("vite")).build(${JSON.stringify(config)})`]);
    return run(app, "node", ["built/vite/page.js"]);
  }

  const renders = (done) => expect(done.stdout === "rooms: 0\n", `${done.stdout}${done.stderr}`);

  check("an app that installed the tarball has one React, with esbuild and with Vite, without any setting", () => {
    renders(esbuild());
    renders(vite());
  });

  check("npm install of the SDK's folder builds it and links it", () => {
    rmSync(join(sdk, "dist"), { recursive: true, force: true });
    install(app, sdk);
    expect(existsSync(join(sdk, "dist/index.js")), "it was not built");
  });

  check("a linked SDK without the documented settings is the trap that they are for", () => {
    for (const done of [esbuild(), vite()])
      expect(/Invalid hook call|of null \(reading 'use/.test(done.stderr), `no second React: ${done.stdout}${done.stderr}`);
  });

  check("a linked SDK shares the app's React by esbuild's --preserve-symlinks and Vite's resolve.dedupe", () => {
    const readme = readFileSync(join(root, "web/sdk/README.md"), "utf8");
    for (const setting of ["--preserve-symlinks", "dedupe: ['react', 'react-dom']"])
      expect(readme.includes(setting), `web/sdk/README.md does not say ${setting}`);
    renders(esbuild("--preserve-symlinks"));
    renders(vite({ dedupe: ["react", "react-dom"] }));
  });

  check("npm install --install-links copies the SDK's folder, and needs no setting", () => {
    rmSync(join(app, "node_modules/@roomwire"), { recursive: true, force: true });
    must(app, "npm", ["install", "--no-save", "--no-audit", "--no-fund", "--install-links", sdk]);
    renders(esbuild());
    renders(vite());
  });
}

function nextProject() {
  const app = installed("next", join(here, "next"));
  cpSync(join(here, "next/app"), join(app, "app"), { recursive: true });
  install(app, tarball);
  for (const bundler of ["turbopack", "webpack"])
    check(`a Next.js App Router project builds from a server file that imports the React entry, with ${bundler}`, () => {
      rmSync(join(app, ".next"), { recursive: true, force: true });
      must(app, "node_modules/.bin/next", ["build", `--${bundler}`], { NEXT_TELEMETRY_DISABLED: "1", CI: "1" });
      const html = readFileSync(join(app, ".next/server/app/index.html"), "utf8").replaceAll("<!-- -->", "");
      expect(html.includes("closed, 0 rooms"), "the page was not rendered on the server");
    });
}
