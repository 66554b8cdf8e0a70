#!/usr/bin/env node
// Fails if a tracked file has a word or a name that tests/words.txt bans.
//
//   node tests/words.mjs              the whole repository
//   node tests/words.mjs hub/src …    only these folders or files
//
// Prints `file:line: banned: plain` for each place. The last line is `N passed, N failed`.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const list = readList(readFileSync(`${root}/tests/words.txt`, "utf8"));

/** Matches every banned word in a text that `plainWords` has prepared. */
const words = new RegExp(`\\b(?:${[...list.words.keys()].map(gaps).join("|")})\\b`, "g");
const names = new RegExp(`\\b(?:${[...list.names.keys()].join("|")})\\b`, "g");
const allowed = [...list.allowed.keys()].map((text) => [text, " ".repeat(text.length)]);
const isCode = /\.(rs|tsx?|mjs|jsx)$/;
const isPicture = /\.png$/;

/** The sections of the list: what is banned, and what to write instead. */
function readList(text) {
  const sections = {};
  let section;
  for (const [at, line] of text.split("\n").entries()) {
    if (line === "" || line.startsWith("#")) continue;
    const title = /^\[(\w+)\]$/.exec(line)?.[1];
    if (title) section = sections[title] = new Map();
    else {
      const [, banned, plain] = /^(.+?) = (.+)$/.exec(line) ?? [];
      if (!section || !banned) throw new Error(`tests/words.txt:${at + 1}: not "banned = plain"`);
      section.set(banned, plain);
    }
  }
  return sections;
}

/** Words of a phrase may stand on two lines of a comment. */
function gaps(phrase) {
  return phrase.replaceAll(" ", "[\\s/!*#]+");
}

/** Splits identifiers into words, without moving a character to another line. */
function plainWords(text) {
  return text
    .replace(/[_-]/g, " ")
    .replace(/([a-z0-9])(?=[A-Z])|([A-Z])(?=[A-Z][a-z])/g, "$1$2 ")
    .toLowerCase();
}

const found = [];

function check(file, text) {
  for (const [wire, blank] of allowed) text = text.replaceAll(wire, blank);
  const prepared = plainWords(text);
  for (const { 0: match, index } of prepared.matchAll(words)) {
    const banned = match.replace(/[\s/!*#]+/g, " ");
    found.push({ file, line: lineOf(prepared, index), banned, plain: list.words.get(banned) });
  }
  if (!isCode.test(file)) return;
  const code = text.replace(/\/\/.*|\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "));
  for (const { 0: banned, index } of code.matchAll(names))
    found.push({ file, line: lineOf(code, index), banned, plain: list.names.get(banned) });
}

function lineOf(text, index) {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < index; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

// The check must be able to fail: each entry is found where it is planted.
const planted = [...list.words.keys()].flatMap((word) => [
  `A sentence: ${word}.`,
  `let ${word.replaceAll(" ", "_")}_ms = 1`,
  `// ends with ${word.replace(" ", "\n/// ")}`,
  `fn was${word.replace(/(?:^| )(\w)/g, (_, first) => first.toUpperCase())}()`,
]);
for (const text of [...planted, ...[...list.names.keys()].map((name) => `struct ${name};`)]) {
  check("planted.rs", text);
  if (found.length === 0) throw new Error(`the check does not find a banned word in: ${text}`);
  found.length = 0;
}

const folders = process.argv.slice(2);
const tracked = execFileSync("git", ["ls-files", "-z", "--", ...folders], { cwd: root, encoding: "utf8" });
const files = tracked.split("\0").filter((file) => file !== "" && !isPicture.test(file) && !list.skipped.has(file));
for (const file of files) {
  if (file.endsWith("package-lock.json")) continue;
  let text;
  try {
    text = readFileSync(`${root}/${file}`, "utf8");
  } catch (error) {
    // A deletion that is not committed, or a symbolic link to a folder.
    if (error.code === "ENOENT" || error.code === "EISDIR") continue;
    throw error;
  }
  check(`${file} (its name)`, file);
  check(file, text);
}

for (const { file, line, banned, plain } of found)
  console.log(`${file}:${line}: "${banned}". Write: ${plain}`);
if (found.length > 0) console.log(`${found.length} places; tests/words.txt has the list.`);
console.log(found.length === 0 ? "1 passed, 0 failed" : "0 passed, 1 failed");
process.exit(found.length === 0 ? 0 : 1);
