#!/usr/bin/env node
// Fails if a document links to a file or a heading that does not exist, or if ARCHITECTURE.md names a file that
// does not exist. Prints `file:line: what`. The last line is `N passed, N failed`.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const pages = execFileSync("git", ["ls-files", "*.md"], { cwd: root, encoding: "utf8" }).trim().split("\n");
const wrong = [];

/** The lines of a page, with code blocks emptied. */
function linesOf(page) {
  const text = readFileSync(join(root, page), "utf8");
  return text.replace(/^```[\s\S]*?^```/gm, (block) => block.replace(/[^\n]/g, "")).split("\n");
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(page) {
  const headings = linesOf(page).filter((line) => /^#+ /.test(line));
  return headings.map((line) =>
    line
      .replace(/^#+ /, "")
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function checkLinks(page) {
  for (const [at, line] of linesOf(page).entries())
    for (const [, target] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path, anchor] = target.split("#");
      const file = path === "" ? page : join(dirname(page), path);
      if (!existsSync(join(root, file))) wrong.push(`${page}:${at + 1}: ${file} does not exist`);
      else if (anchor !== undefined && !anchorsOf(file).includes(anchor))
        wrong.push(`${page}:${at + 1}: ${file} has no heading #${anchor}`);
    }
}

/** A file or a folder in backticks: it has a known extension, or ends with a slash. */
const namesPath = /^[\w.-]+(\/[\w.-]+)*(\/|\.(rs|tsx?|mjs|sh|json|toml|md|txt|html|css|py))$/;

/** Paths are relative to the root, or to the folder in the heading above them. */
function checkPaths(page) {
  let folder = "";
  let checked = 0;
  for (const [at, line] of linesOf(page).entries()) {
    if (line.startsWith("#")) folder = /`([\w/.-]+\/)`/.exec(line)?.[1] ?? "";
    for (const [, name] of line.matchAll(/`([^`]+)`/g)) {
      if (!namesPath.test(name)) continue;
      checked++;
      if (!existsSync(join(root, name)) && !existsSync(join(root, folder, name)))
        wrong.push(`${page}:${at + 1}: ${name} does not exist, neither in the root nor in ${folder || "a folder of its heading"}`);
    }
  }
  return checked;
}

for (const page of pages) checkLinks(page);
const checked = checkPaths("ARCHITECTURE.md");
if (checked < 50) wrong.push(`ARCHITECTURE.md: only ${checked} paths are found`);

for (const line of wrong) console.log(line);
console.log(wrong.length === 0 ? "1 passed, 0 failed" : "0 passed, 1 failed");
process.exit(wrong.length === 0 ? 0 : 1);
