/** Why a page is not connected, as real browsers let a page find it out. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, type Page, test } from '@playwright/test'

const hub = process.env.ROOMWIRE_URL ?? 'http://127.0.0.1:3000'

/** A page without a bundler, on an origin that the hub does not know. */
async function strangersPage() {
  const sdk = await (await fetch(`${hub}/sdk.js`)).text()
  const server = createServer((request, response) => {
    const isSdk = request.url === '/sdk.js'
    response.setHeader('content-type', isSdk ? 'text/javascript' : 'text/html')
    response.end(isSdk ? sdk : '<!doctype html><title>A page</title>')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, end: () => server.close() }
}

/** A port where nothing listens. */
async function deadPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Connects to `url`, and reports what the SDK found out, on the connection and of a command. */
function failureAt(page: Page, url: string) {
  return page.evaluate(async url => {
    const source = '/sdk.js'
    const { createRoomwire } = await import(source)
    const roomwire = createRoomwire({ url, getToken: async () => 'e30.e30.x' })
    const reason = await new Promise<{ failure: string; text: string }>(resolve => {
      roomwire.onChange(() => {
        const { reason } = roomwire.getState().connection
        if (reason?.hint) resolve(reason)
      })
      roomwire.connect()
    })
    const command = await roomwire.listRooms().catch((problem: { code: string; failure: string }) => problem)
    roomwire.close()
    return { failure: reason.failure, text: reason.text, command: [command.code, command.failure] }
  }, url)
}

let stranger: Awaited<ReturnType<typeof strangersPage>>
let warnings: string[] = []

test.beforeEach(async ({ page }) => {
  stranger = await strangersPage()
  warnings = []
  page.on('console', message => {
    if (message.type() === 'warning' && message.text().startsWith('Roomwire:')) warnings.push(message.text())
  })
  await page.goto(stranger.origin)
})
test.afterEach(() => stranger.end())

test('a page of a wrong origin reports the origin that WEB_ORIGIN lacks, and warns the developer once', async ({
  page,
}) => {
  const { failure, text, command } = await failureAt(page, hub)
  expect(failure).toBe('origin_not_allowed')
  expect(text).toBe(`the hub at ${hub} does not allow the origin ${stranger.origin}`)
  expect(command).toEqual(['NETWORK', 'origin_not_allowed'])
  expect(warnings).toHaveLength(1)
  expect(warnings[0]).toContain(`Add ${stranger.origin} to WEB_ORIGIN`)
})

test('a page with a dead address reports that nothing answers there', async ({ page }) => {
  const dead = `http://127.0.0.1:${await deadPort()}`
  const { failure, text, command } = await failureAt(page, dead)
  expect(failure).toBe('unreachable')
  expect(text).toBe(`nothing answers at ${dead}`)
  expect(command).toEqual(['NETWORK', 'unreachable'])
  expect(warnings).toHaveLength(1)
})

test('a page with https instead of http reports the address that answers', async ({ page }) => {
  const { failure, text } = await failureAt(page, hub.replace('http:', 'https:'))
  expect(failure).toBe('wrong_scheme')
  expect(text).toContain(`the hub answers at ${hub},`)
})

test('a page with its own address instead of that of the hub reports that the server is no hub', async ({
  page,
}) => {
  const { failure, command } = await failureAt(page, stranger.origin)
  expect(failure).toBe('not_a_hub')
  expect(command).toEqual(['NETWORK', 'not_a_hub'])
})
