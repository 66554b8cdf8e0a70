/**
 * Builds `dist` from `src`: ES modules, and the same as CommonJS for Jest and other users of `require`.
 *
 * npm runs it with `--for-package` (the script `prepare`) before it packs the SDK, and when an app installs the SDK
 * from this folder. A fresh clone has no TypeScript then: it is installed first, from the workspace's lockfile. npm
 * prints the tarball's name on stdout, so that everything here goes to stderr.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const sdk = dirname(fileURLToPath(import.meta.url))
const workspace = dirname(sdk)
const compiler = join(workspace, 'node_modules/typescript/bin/tsc')
const forPackage = process.argv.includes('--for-package')

/**
 * What the npm that runs this script passes on about its own call. The npm that this script runs must not follow it;
 * the registry, proxy, cache and certificates stay.
 */
const ofCallingNpm =
  /^npm_(command|lifecycle_.*|package_.*|config_(local_prefix|prefix|global|workspaces?|include_workspace_root|install_links|install_strategy|ignore_scripts|omit|include|only|production|dry_run|pack_destination|json|loglevel|silent|save.*|package_lock.*))$/i

// `npm ci` of the workspace prepares its members too: the SDK is built by `npm run build`, or when it is packed.
const workspaceInstall =
  /^(ci|install|install-.*|update|dedupe|prune|rebuild)$/.test(process.env.npm_command ?? '') &&
  process.env.npm_config_local_prefix === workspace
if (!(forPackage && workspaceInstall)) {
  if (forPackage && !existsSync(compiler)) installTools()
  if (!existsSync(compiler)) fail(`TypeScript is missing. Run: npm --prefix "${workspace}" ci`)
  build()
}

function installTools() {
  say('is built on this first use: installing its tools')
  if (
    run('npm', [
      'ci',
      '--prefix',
      workspace,
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      '--include=dev',
    ]) !== 0
  ) {
    fail(`its tools could not be installed. Run: npm --prefix "${workspace}" ci`)
  }
}

function build() {
  rmSync(join(sdk, 'dist'), { recursive: true, force: true })
  for (const project of ['tsconfig.build.json', 'tsconfig.cjs.json']) {
    if (run(process.execPath, [compiler, '-p', join(sdk, project)]) !== 0) {
      // Half a build must not be packed by the next attempt.
      rmSync(join(sdk, 'dist'), { recursive: true, force: true })
      fail(`${project} has the errors above. Correct them, or check out a released version.`)
    }
  }
  const commonJs = { type: 'commonjs', sideEffects: false }
  writeFileSync(join(sdk, 'dist/cjs/package.json'), `${JSON.stringify(commonJs)}\n`)
}

/** Runs a program with its output on stderr, and returns its exit code. */
function run(program, args) {
  const env = { ...process.env }
  for (const name of Object.keys(env)) if (ofCallingNpm.test(name)) delete env[name]
  const shell = process.platform === 'win32' && program === 'npm'
  return spawnSync(program, args, { cwd: sdk, env, shell, stdio: ['ignore', 2, 2] }).status
}

function fail(reason) {
  say(`cannot be built: ${reason}`)
  process.exit(1)
}

function say(what) {
  process.stderr.write(`@roomwire/sdk ${what}\n`)
}
