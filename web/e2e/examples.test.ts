/** One's own page and one's own client against the demo: `examples/`, and the five lines of README.md. */
import { cpSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { expect, type Page, test } from '@playwright/test'
import { blocks, cable, type Ended, inCheckout, ownOrigin, Program, serveFile, vite } from './own-page.js'
import { channels, lobby, voice } from './sim.js'

let running: Ended[] = []
const started = <What extends Ended>(what: What): What => {
  running.push(what)
  return what
}

test.beforeEach(({ page }) => {
  page.on('pageerror', error => {
    throw error
  })
})
test.afterEach(async () => {
  for (const each of running.reverse()) await each.end()
  running = []
})

/** A user that nobody but this test moves. */
const nobodyElse = () => `2998${String(Date.now()).slice(-10)}${Math.floor(Math.random() * 9000 + 1000)}`

/** Puts somebody into a room, and returns the name that the pages show. */
async function joins(userId: string, channelId: string): Promise<string> {
  await voice({ userId, channelId })
  const name = (await channels())[channelId]?.members?.[userId]?.displayName
  if (!name) throw new Error(`${userId} is not in ${channelId}`)
  return name
}

async function nameOf(channelId: string): Promise<string> {
  return (await channels())[channelId]?.name ?? ''
}

/** What both example pages offer. */
async function livesAndActs(page: Page) {
  await page.goto(ownOrigin)
  await expect(page.getByText('Live', { exact: true })).toBeVisible()
  const room = page.getByRole('listitem').filter({ hasText: await nameOf(lobby) })
  const userId = nobodyElse()
  const person = await joins(userId, lobby)
  await expect(room).toContainText(person)
  await voice({ userId, channelId: null })
  await expect(room).not.toContainText(person)

  const name = `Own page ${Date.now() % 100_000}`
  await page.getByPlaceholder('Name').fill(name)
  await page.getByRole('button', { name: 'Open a room' }).click()
  const opened = page.getByRole('listitem').filter({ hasText: name })
  await expect(opened).toBeVisible()
  expect(Object.values(await channels()).map(channel => channel.name)).toContain(name)
  await opened.getByRole('button', { name: 'End' }).click()
  await expect(opened).toHaveCount(0)
  expect(Object.values(await channels()).map(channel => channel.name)).not.toContain(name)

  await room.getByRole('button', { name: 'End' }).click()
  await expect(page.getByRole('alert').filter({ hasText: /./ })).toBeVisible()
}

test('the Vite example shows rooms live, and opens and ends a room', async ({ page }) => {
  started(await vite('examples/vite-react', 'dev'))
  await livesAndActs(page)
})

test('the one HTML file shows rooms live, and opens and ends a room', async ({ page }) => {
  started(await serveFile('examples/plain-html/index.html'))
  await livesAndActs(page)
})

/** A Vite app whose `src/App.tsx` is the README's five lines, as they are written. */
function fiveLinesApp(project: string) {
  const [five = ''] = blocks('README.md', 'tsx')
  expect(five.trim().split('\n')).toHaveLength(5)
  rmSync(inCheckout(project), { recursive: true, force: true })
  cpSync(inCheckout('examples/vite-react'), inCheckout(project), {
    recursive: true,
    filter: path => !/vite-react\/(node_modules\/\.vite|dist|src\/(Rooms|OpenRoom)\.tsx)$/.test(path),
  })
  writeFileSync(inCheckout(`${project}/src/App.tsx`), five)
}

async function fiveLinesLive(page: Page) {
  await page.goto(ownOrigin)
  const room = page.getByText(new RegExp(`^${await nameOf(lobby)}: \\d+$`))
  await expect(room).toBeVisible()
  // Others may come and go meanwhile: the count is compared with what is true.
  const count = async () => Object.keys((await channels())[lobby]?.members ?? {}).length
  const shown = async () => Number((await room.textContent())?.split(': ')[1])
  const before = await count()
  const userId = nobodyElse()
  await voice({ userId, channelId: lobby })
  await expect.poll(async () => (await shown()) === (await count()) && (await count()) !== before).toBe(true)
  await voice({ userId, channelId: null })
}

test('the five lines of the readme, as they are written, show rooms live in a Vite app', async ({ page }) => {
  fiveLinesApp('target/five-lines')
  started(await vite('target/five-lines', 'dev'))
  await fiveLinesLive(page)
})

// Vite's dev server finds one React anyway; without the setting, what it builds has two.
test('an SDK that is linked from the clone shares one React in a Vite build, by resolve.dedupe', async ({
  page,
}) => {
  const project = 'target/five-lines-linked'
  fiveLinesApp(project)
  const installed = inCheckout(`${project}/node_modules/@roomwire/sdk`)
  rmSync(installed, { recursive: true })
  symlinkSync(inCheckout('web/sdk'), installed)
  writeFileSync(
    inCheckout(`${project}/vite.config.ts`),
    `import react from '@vitejs/plugin-react'
     export default { plugins: [react()], resolve: { dedupe: ['react', 'react-dom'] } }`,
  )
  const built = started(new Program('node', ['node_modules/vite/bin/vite.js', 'build'], project))
  await built.says(/built in/)
  started(await vite(project, 'preview'))
  await fiveLinesLive(page)
})

test('the Python client shows rooms live, and recovers after a cut connection', async () => {
  const python = process.env.EXAMPLE_PYTHON
  test.skip(!python, 'python3 with venv and pip is missing, or pip could not install websockets')
  const line = started(await cable(3000))
  const client = started(
    new Program(python ?? '', ['rooms.py', `http://127.0.0.1:${line.port}`], 'examples/python-client'),
  )
  await client.says(/from a snapshot/)
  const userId = nobodyElse()
  const inLobby = async (person: string) => new RegExp(`${await nameOf(lobby)}: [^|\\n]*${person}`)
  await client.says(await inLobby(await joins(userId, lobby)))
  line.cut()
  await client.says(/lost \(1006\)/)
  const missed = nobodyElse()
  const missedPerson = await joins(missed, lobby)
  line.plug()
  await client.says(/continued/)
  await client.says(await inLobby(missedPerson))
  await voice({ userId, channelId: null })
  await voice({ userId: missed, channelId: null })
})
