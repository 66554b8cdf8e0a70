/** The console in a browser, with a hub that a test speaks for: it restarts, is away, and comes back. */
import { expect, type Page, test, type WebSocketRoute } from '@playwright/test'

const guildId = '1'
const tokenOf = (sub: string) => `e30.${Buffer.from(JSON.stringify({ sub })).toString('base64url')}.x`
const subOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).sub as string

interface AuthFrame {
  readonly type: string
  readonly token: string
  readonly recover?: Record<string, string>
}

/** Takes the place of the hub's WebSocket and of the issuer; the page itself is the real one. */
async function speakFor(page: Page) {
  let line: WebSocketRoute | undefined
  const hub = {
    away: false,
    hellos: [] as AuthFrame[],
    say: (frame: object) => line?.send(JSON.stringify({ v: 1, ts: Date.now(), ...frame })),
    gateway: (state: string, ageMs = 5, reason?: string) =>
      hub.say({ type: 'event', event: 'gateway.state', guildId, payload: { state, ageMs, reason } }),
    restart: async () => {
      hub.away = true
      await line?.close({ code: 1012 })
    },
  }
  await page.route('**/token', route =>
    route.fulfill({ json: { token: tokenOf(route.request().postDataJSON().sub) } }),
  )
  await page.routeWebSocket(/\/api\/ws$/, socket => {
    if (hub.away) return void socket.close({ code: 1013 })
    line = socket
    socket.onMessage(text => {
      const hello = JSON.parse(String(text)) as AuthFrame
      if (hello.type !== 'auth') return
      hub.hellos.push(hello)
      const recovered = hello.recover?.[guildId] === 'p1'
      const expiresAt = Date.now() + 3_600_000
      hub.say({
        type: 'ack',
        event: 'auth.ok',
        guildId,
        guilds: [guildId],
        sub: subOf(hello.token),
        connectionId: '1',
        expiresAt,
      })
      hub.say({ type: 'ack', event: 'subscribed', guildId, recovered, pos: 'p1' })
      if (!recovered)
        hub.say({ type: 'event', event: 'guild.snapshot', guildId, payload: whole, pos: 'p1', n: 0 })
    })
  })
  return hub
}

const whole = {
  guildId,
  reason: 'subscribed',
  rooms: [
    {
      guildId,
      channelId: '11',
      name: 'Lobby',
      userLimit: 0,
      members: [{ guildId, channelId: '11', userId: '7' }],
    },
  ],
  gateway: { state: 'live', ageMs: 5 },
}

/** Where the rooms begin, at the very moment when `selector` fits them. */
function topOf(page: Page, selector: string): Promise<number> {
  return page.evaluate(
    wanted =>
      new Promise<number>(resolve => {
        const look = () => {
          const rooms = document.querySelector(wanted)
          if (rooms) resolve(rooms.getBoundingClientRect().top)
          return rooms !== null
        }
        const everything = { subtree: true, childList: true, attributes: true }
        if (!look())
          new MutationObserver((_, end) => look() && end.disconnect()).observe(document.body, everything)
      }),
    selector,
  )
}

async function signIn(page: Page, sub = 'ada') {
  if (sub === 'ada') await page.goto('/')
  await page.getByTestId(`sign-in-${sub}`).click()
  await expect(page.getByTestId('member')).toHaveCount(1)
  await expect(page.locator('.rooms.stale')).toHaveCount(0)
}

test('a restart of the hub greys the page and moves nothing', async ({ page }) => {
  const hub = await speakFor(page)
  await signIn(page)
  const card = page.getByTestId('room')
  const before = await topOf(page, '.rooms:not(.stale)')
  const same = await card.elementHandle()

  const after = topOf(page, '.rooms.stale')
  await hub.restart()
  expect(await after).toBe(before)
  hub.away = false
  await expect(page.getByTestId('connection')).toHaveAttribute('data-state', 'open')
  expect(hub.hellos.at(-1)?.recover).toEqual({ [guildId]: 'p1' })
  // The hub has not reported the gateway yet.
  await expect(page.getByTestId('stale')).toContainText('catching up with the hub')
  hub.gateway('live')
  await expect(page.locator('.rooms.stale')).toHaveCount(0)
  await expect(page.getByTestId('stale')).toHaveCount(0)
  expect(await card.evaluate((now, then) => now === then, same)).toBe(true)
})

test('stale rooms show the reason and the time', async ({ page }) => {
  const hub = await speakFor(page)
  await signIn(page)
  hub.gateway('down', 250_000, 'worker_silent')
  await expect(page.getByTestId('stale')).toBeVisible()
  await expect(page.getByTestId('stale')).toHaveText(
    /gateway worker\. Shown as of .*\d\d:\d\d.*, 4 minutes ago\.$/,
  )
})

test('a reload without a hub shows the last rooms, and recovers from their position', async ({ page }) => {
  const hub = await speakFor(page)
  await signIn(page)
  hub.away = true
  await page.reload()
  await expect(page.getByTestId('member')).toHaveCount(1)
  await expect(page.locator('.rooms.stale')).toHaveCount(1)
  await expect(page.getByTestId('stale')).toContainText('does not hear from the hub')
  hub.away = false
  await expect.poll(() => hub.hellos.length).toBe(2)
  expect(hub.hellos[1]?.recover).toEqual({ [guildId]: 'p1' })
  hub.gateway('live')
  await expect(page.locator('.rooms.stale')).toHaveCount(0)
  await expect(page.getByTestId('member')).toHaveCount(1)
})

test('signing out deletes everything about the members', async ({ page }) => {
  await speakFor(page)
  await signIn(page)
  await page.reload()
  await expect(page.getByTestId('member')).toHaveCount(1)
  await page.getByTestId('sign-out').click()
  await expect(page.getByTestId('sign-in-ada')).toBeVisible()
  expect(await page.evaluate(() => Object.keys(sessionStorage))).toEqual([])
})

test('signing out as Ada and in as Grace, without a reload, connects as Grace and recovers nothing of Ada', async ({
  page,
}) => {
  const hub = await speakFor(page)
  await signIn(page)
  await page.getByTestId('sign-out').click()
  await signIn(page, 'grace')
  expect(hub.hellos.map(hello => [subOf(hello.token), hello.recover])).toEqual([
    ['ada', undefined],
    ['grace', undefined],
  ])
  await expect(page.locator('.who-name')).toHaveText('Grace')
})

test('a hub that does not accept the token is reported with what to do about it', async ({ page }) => {
  await speakFor(page)
  await page.routeWebSocket(/\/api\/ws$/, socket => {
    socket.onMessage(() => void socket.close({ code: 4401 }))
  })
  await page.goto('/')
  await page.getByTestId('sign-in-ada').click()
  await expect(page.getByTestId('failure')).toHaveAttribute('data-failure', 'token_invalid')
  await expect(page.getByTestId('failure')).toContainText('JWT_ISSUER')
})
