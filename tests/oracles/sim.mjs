// Starts a simulated Discord on a free port, and talks to its REST and control sides.

import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** The program: `DISCORD_SIM_BIN`, or what cargo builds now. */
function program() {
  if (process.env.DISCORD_SIM_BIN) {
    return process.env.DISCORD_SIM_BIN;
  }
  const built = spawnSync(
    "cargo",
    ["build", "--quiet", "--package", "discord-sim", "--message-format=json-render-diagnostics"],
    { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 26 },
  );
  if (built.status !== 0) {
    throw new Error("discord-sim cannot be built");
  }
  const executables = built.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line).executable)
    .filter(Boolean);
  return executables.at(-1);
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A running simulator: `{address, rest, control, stop}`. */
export async function startSim(variables = {}) {
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(program(), [], {
    env: { LOG_LEVEL: "warn", SIM_QUIET: "1", ...variables, SIM_LISTEN: address },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const control = async (method, path, body) => {
    const response = await fetch(`http://${address}/_sim/${path}`, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(`${method} /_sim/${path}: ${response.status} ${JSON.stringify(answer)}`);
    }
    return answer;
  };
  const rest = async (method, path, body, headers = {}) => {
    const response = await fetch(`http://${address}/api/v10${path}`, {
      method,
      headers: { authorization: "Bot sim-token", "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
  };
  for (let tries = 0; ; tries++) {
    try {
      await control("GET", "state");
      break;
    } catch (error) {
      if (tries > 200 || child.exitCode !== null) {
        throw new Error(`the simulator did not come up: ${error}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
  return { address, control, rest, stop: () => child.kill("SIGTERM") };
}
