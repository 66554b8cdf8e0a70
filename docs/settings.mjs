// Writes what is derived from the programs' --help: the tables of settings in docs/operations.md,
// and launch/src/settings/names.txt, by which misspelled variables are recognised.
//
//   node docs/settings.mjs [--check] [folder of the programs, target/debug if none is named]
//
// With --check it changes nothing, and fails if a file is out of date.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

const args = process.argv.slice(2)
const check = args.includes('--check')
const folder = args.find(arg => !arg.startsWith('--')) ?? new URL('../target/debug', import.meta.url).pathname
const page = new URL('operations.md', import.meta.url)
const list = new URL('../launch/src/settings/names.txt', import.meta.url)
/** Every program that reads settings from the environment. */
const programs = ['hub', 'gateway-worker', 'discord-sim', 'dev-issuer', 'chaos', 'load']

const helpOf = program => execFileSync(`${folder}/${program}`, ['--help'], { encoding: 'utf8', env: {} })

/** The settings of a program, by section: what `--help` prints, whose form is clap's. */
function settingsOf(program) {
  const help = helpOf(program)
  const required = new Set(help.match(/^Usage: .*$/m)?.[0].match(/--[a-z-]+/g) ?? [])
  const sections = []
  let entry
  for (const line of help.split('\n')) {
    const title = line.match(/^(\S.*):$/)?.[1]
    const option = line.match(/^ +(?:-\w, )?(--[a-z-]+)(?: <[^>]+>)?(?: +(\S.*))?$/)
    if (title) sections.push({ title, entries: [] })
    else if (option && sections.length > 0) {
      entry = { flag: option[1], text: option[2] ?? '' }
      sections.at(-1).entries.push(entry)
    } else if (entry && sections.length > 0) entry.text += `\n${line.trim()}`
  }
  for (const section of sections) {
    section.entries = section.entries.flatMap(({ flag, text }) => {
      const whole = text
        .replace(/\nPossible values:\n[\s\S]*?(?=\n\[|$)/, '')
        .replace(/\s+/g, ' ')
        .trim()
      const name = whole.match(/\[env: ([A-Z_]+)( or [A-Z_]+_FILE)?\]/)
      if (!name) return []
      const fallback = whole.match(/\[default: ([^\]]*)\]/)?.[1]
      const meaning = whole
        .replace(/ ?\[env: [^\]]*\]/, '')
        .replace(/ ?\[default: [^\]]*\]/, '')
        .replace(/ ?\[possible values: [^\]]*\]/, '')
        .trim()
      return [{ name: name[1], secret: Boolean(name[2]), required: required.has(flag), fallback, meaning }]
    })
  }
  return sections.filter(section => section.entries.length > 0)
}

const escape = text => text.replaceAll('|', '\\|').replace(/([<>])/g, '\\$1')

function tablesOf(program) {
  return settingsOf(program)
    .map(({ title, entries }) => {
      const rows = entries.map(({ name, secret, required, fallback, meaning }) => {
        const value = required ? 'required' : fallback === undefined ? '' : `\`${fallback}\``
        return `| \`${name}\`${secret ? ', `_FILE`' : ''} | ${value} | ${escape(meaning)} |`
      })
      return [`**${title}**`, '', '| setting | default | |', '|---|---|---|', ...rows].join('\n')
    })
    .join('\n\n')
}

/** The names of all settings, sorted, one a line. */
function names() {
  const all = programs.flatMap(program =>
    [...helpOf(program).matchAll(/\[env:\s+([^\]]*)\]/g)].flatMap(([, found]) => found.split(/\s+or\s+/)),
  )
  return [...new Set(all)].sort().map(name => `${name}\n`).join('')
}

const text = readFileSync(page, 'utf8')
const tables = text.replace(
  /(<!-- settings of ([a-z-]+) -->\n)[\s\S]*?(\n<!-- end -->)/g,
  (_, begin, program, end) => `${begin}\n${tablesOf(program)}\n${end}`,
)
const outdated = [
  ['docs/operations.md', page, text, tables],
  ['launch/src/settings/names.txt', list, readFileSync(list, 'utf8'), names()],
].filter(([, , before, after]) => before !== after)
if (outdated.length === 0) console.log('The tables and the names of settings are up to date.')
for (const [name, file, , after] of outdated) {
  if (check) {
    console.error(`${name} is out of date. Run \`node docs/settings.mjs\`.`)
    process.exitCode = 1
  } else {
    writeFileSync(file, after)
    console.log(`${name} is written.`)
  }
}
