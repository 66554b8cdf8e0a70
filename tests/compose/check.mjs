// What a compose file can be checked for without Docker: its form, by the compose specification's schema,
// and what it promises, by the rules below. The schema, compose-spec.json, is a copy of the compose
// specification's own (https://github.com/compose-spec/compose-spec, Apache-2.0) of October 2026.
import { readFileSync } from 'node:fs'
import Ajv from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { parse } from 'yaml'

const root = new URL('../../', import.meta.url)
const read = path => readFileSync(new URL(path, root), 'utf8')
const demo = Object.fromEntries(
  read('tests/compose/demo/demo.env')
    .split('\n')
    .filter(line => line && !line.startsWith('#'))
    .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
)

/** `${NAME}`, `${NAME:-default}`, `${NAME:?why}`, as compose reads them. */
function interpolate(text, settings) {
  return text.replace(/\$\{([A-Z_]+)(?::([-?])([^}]*))?\}/g, (_, name, mark, rest) => {
    if (settings[name]) return settings[name]
    if (mark === '-') return rest
    throw new Error(`${name} is not set, and has no default`)
  })
}

const text = read('docker-compose.yml')
const compose = parse(interpolate(text, demo), { merge: true })
const services = Object.entries(compose.services)
const problems = []
let passed = 0

function rule(name, wrong) {
  const found = wrong.filter(Boolean)
  if (found.length === 0) passed += 1
  else problems.push(`${name}:\n${found.map(each => `    ${each}`).join('\n')}`)
}

// 1. The form.
const schema = JSON.parse(read('tests/compose/compose-spec.json'))
const ajv = new Ajv({ strict: false, allErrors: true })
addFormats(ajv)
for (const format of ['expose', 'ports', 'subnet_ip_address', 'duration']) ajv.addFormat(format, true)
delete schema.$schema
const valid = ajv.compile(schema)
valid(compose)
rule(
  'the compose specification',
  (valid.errors ?? []).map(error => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`),
)

// 2. A schema that takes anything would prove nothing.
const spoiled = [
  ['service', 'read_only', []],
  ['service', 'healthchek', {}],
  ['service', 'cap_drop', 'ALL'],
  ['file', 'servces', {}],
]
rule(
  'the check can fail',
  spoiled.map(([where, key, value]) => {
    const copy = structuredClone(compose)
    if (where === 'file') copy[key] = value
    else copy.services.hub[key] = value
    return valid(copy) && `${key}: ${JSON.stringify(value)} was taken`
  }),
)

// 3. What the file promises.
const targets = [...read('Dockerfile').matchAll(/^FROM \S+ AS (\S+)$/gm)].map(match => match[1])
const withHealth = [...read('Dockerfile').matchAll(/^FROM \S+ AS (\S+)\n(?:(?!^FROM )[^\n]*\n)*?HEALTHCHECK/gm)].map(
  match => match[1],
)
rule(
  'every service is confined',
  services.flatMap(([name, it]) => [
    it.read_only !== true && `${name} can write`,
    !it.cap_drop?.includes('ALL') && `${name} keeps capabilities`,
    !it.security_opt?.includes('no-new-privileges:true') && `${name} can gain privileges`,
    !/^[1-9]\d*:[1-9]\d*$/.test(it.user ?? '') && `${name} may be root`,
    it.privileged && `${name} is privileged`,
  ]),
)
rule(
  'every service can be seen to be well',
  services.map(
    ([name, it]) =>
      !it.healthcheck?.test &&
      !withHealth.includes(it.build?.target) &&
      // A forwarder is as well as what it forwards to.
      it.command?.[0] !== 'socat' &&
      `${name} has no health check`,
  ),
)
rule(
  'ports are published on loopback alone',
  services.flatMap(([name, it]) =>
    (it.ports ?? []).map(port => !/^127\.0\.0\.1:/.test(port) && `${name} publishes ${port}`),
  ),
)
rule(
  'what is for the demo is in its profile alone',
  services.map(([name, it]) => {
    const forDemo = name !== 'hub' && name !== 'gateway-worker'
    return forDemo !== (it.profiles?.join() === 'demo') && `${name}: profiles ${it.profiles}`
  }),
)
rule(
  'what is built can be built',
  services.map(([name, it]) => it.build && !targets.includes(it.build.target) && `${name}: no target ${it.build.target}`),
)
rule(
  'secrets come from files',
  services.flatMap(([name, it]) => [
    ...Object.keys(it.environment ?? {}).map(
      key => /(SECRET|TOKEN)$/.test(key) && `${name}: ${key} stands in the environment`,
    ),
    ...Object.entries(it.environment ?? {}).map(
      ([key, value]) =>
        key.endsWith('_FILE') &&
        !it.secrets?.some(secret => value === `/run/secrets/${secret}`) &&
        `${name}: ${key} names no secret of it`,
    ),
    ...(it.secrets ?? []).map(secret => {
      const file = compose.secrets?.[secret]?.file
      return !(file && read(file).trim()) && `${name}: the demo has no ${secret}`
    }),
  ]),
)
// A setting that no program reads is a typing error, or older than the program. What hub and worker read is
// in the tables of docs/operations.md, which docs/settings.mjs compares with the programs' own --help.
const operations = read('docs/operations.md')
const documented = program => {
  const table = operations.split(`<!-- settings of ${program} -->`)[1]?.split('<!-- end -->')[0] ?? ''
  return [...table.matchAll(/^\| `([A-Z_]+)`(, `_FILE`)? \| (?:`([^`]*)`)?/gm)].flatMap(([, name, secret, fallback]) => [
    [name, fallback],
    ...(secret ? [[`${name}_FILE`]] : []),
  ])
}
const inSource = paths => [...paths.map(read).join('\n').matchAll(/env = "([A-Z_]+)"/g)].map(([, name]) => [name])
const settings = {
  hub: new Map(documented('hub')),
  'gateway-worker': new Map(documented('gateway-worker')),
  'discord-sim': new Map(inSource(['tests/discord-sim/src/settings.rs', 'launch/src/logs.rs'])),
  'dev-issuer': new Map(inSource(['tests/dev-issuer/src/main.rs', 'tests/dev-issuer/src/lib.rs', 'launch/src/logs.rs'])),
}
rule(
  'every setting is one that the program reads',
  services.flatMap(([name, it]) =>
    Object.keys(it.environment ?? {}).map(key => !settings[name]?.has(key) && `${name} does not know ${key}`),
  ),
)
const hub = compose.services.hub
const connectionsMax = ['TCP_CONNECTIONS_MAX', 'CONNECTIONS_MAX', 'LINGER_CONNECTIONS_MAX']
  .map(name => Number(settings.hub.get(name)))
  .reduce((sum, each) => sum + each)
rule('the hub has descriptors for all its connections', [
  !(hub.ulimits?.nofile?.hard > connectionsMax) && `${hub.ulimits?.nofile?.hard} for ${connectionsMax} connections`,
])
rule(
  'health and metrics can be had from the network inside, and are not published',
  [
    ['hub', 'INTERNAL_LISTEN'],
    ['gateway-worker', 'WORKER_LISTEN'],
  ].flatMap(([name, key]) => {
    const { environment, networks, ports = [] } = compose.services[name]
    const port = Number(environment[key]?.match(/^0\.0\.0\.0:(\d+)$/)?.[1])
    const published = ports.map(each => each.split(':').at(-1).split('-').map(Number))
    return [
      !port && `${name} listens on ${environment[key]}`,
      !networks.includes('inside') && `${name} is not inside`,
      published.some(([from, to = from]) => from <= port && port <= to) && `${name} publishes ${port}`,
    ]
  }),
)
// A setting that somebody writes down and that changes nothing is worse than an error.
const written = parse(text, { merge: true }).services
// What the file decides itself, because the rest of it stands on it: ports, names, mounts.
const decided = ['HUB_LISTEN', 'INTERNAL_LISTEN', 'WORKER_LISTEN', 'HUB_ENDPOINT']
rule(
  'what stands in .env reaches the hub and the worker',
  ['hub', 'gateway-worker'].flatMap(name => [
    JSON.stringify(written[name].env_file) !==
      JSON.stringify(['.env', `.env.${name}`].map(path => ({ path, required: false }))) &&
      `${name} reads ${JSON.stringify(written[name].env_file)}`,
    ...Object.entries(written[name].environment).map(
      ([key, value]) =>
        !decided.includes(key) &&
        !key.endsWith('_FILE') &&
        !value.startsWith(`\${${key}:`) &&
        `${name}: ${key} is ${value}, whatever .env says`,
    ),
  ]),
)
rule(
  'a service that shares a network names an existing service',
  services.map(([name, it]) => {
    const other = it.network_mode?.match(/^service:(.+)$/)?.[1]
    return other && !compose.services[other] && `${name} shares with ${other}`
  }),
)
// What people copy to `.env` names settings of the programs, and every required one.
const example = read('.env.example')
const named = new Set([...example.matchAll(/^(?:# ?)?([A-Z][A-Z_]*)=/gm)].map(([, name]) => name))
const set = new Set([...example.matchAll(/^([A-Z][A-Z_]*)=/gm)].map(([, name]) => name))
const both = new Map([...settings.hub, ...settings['gateway-worker']])
rule('.env.example names settings that exist, and sets every required one', [
  ...[...named].map(name => !both.has(name) && `no program reads ${name}`),
  ...[...operations.matchAll(/^\| `([A-Z_]+)`(, `_FILE`)? \| required/gm)].map(
    ([, name, secret]) => !set.has(secret ? `${name}_FILE` : name) && `${name} is missing`,
  ),
])
let started = ''
try {
  interpolate(text, {})
  started = 'without settings, compose would start something'
} catch {
  // As it should.
}
rule('without settings nothing starts', [started])

for (const problem of problems) console.error(`docker-compose.yml, ${problem}`)
console.log(`${passed} passed, ${problems.length} failed`)
process.exitCode = problems.length > 0 ? 1 : 0
