import { expect, type Page, test } from '@playwright/test'
import { channels, lobby, lounge, staffRoom, voice } from './sim.js'

const room = (page: Page, channelId: string) =>
  page.locator(`[data-testid="room"][data-channel-id="${channelId}"]`)
const member = (page: Page, channelId: string, userId: string) =>
  room(page, channelId).locator(`[data-testid="member"][data-user-id="${userId}"]`)

/** A user that nobody but this test moves. */
const nobodyElse = () => `2999${String(Date.now()).slice(-10)}${Math.floor(Math.random() * 9000 + 1000)}`

async function signIn(page: Page, sub: string) {
  await page.goto('/')
  await page.getByTestId(`sign-in-${sub}`).click()
  await expect(page.getByTestId('connection')).toHaveAttribute('data-state', 'open')
  await expect(page.getByTestId('gateway')).toHaveAttribute('data-state', 'live')
  await expect(room(page, lobby)).toBeVisible()
}

/** Who sits where on the page, as one string. */
async function seating(page: Page): Promise<string> {
  return page.getByTestId('member').evaluateAll(rows =>
    rows
      .map(row => {
        const where = row.closest('[data-testid="room"]')?.getAttribute('data-channel-id')
        return `${where}:${row.getAttribute('data-user-id')}`
      })
      .sort()
      .join(' '),
  )
}

test.beforeEach(({ page }) => {
  page.on('pageerror', error => {
    throw error
  })
})

test('members move on the page without a reload', async ({ page }) => {
  await signIn(page, 'ada')
  await expect(page.getByTestId('member').first()).toBeVisible({ timeout: 30_000 })
  const before = await seating(page)
  await expect.poll(() => seating(page), { timeout: 45_000 }).not.toBe(before)
})

test('a join, a move, a mute and a leave in Discord are on the page within a second', async ({ page }) => {
  const userId = nobodyElse()
  await signIn(page, 'ada')

  await voice({ userId, channelId: lobby })
  await expect(member(page, lobby, userId)).toBeVisible({ timeout: 1_000 })

  await voice({ userId, channelId: lounge })
  await expect(member(page, lounge, userId)).toBeVisible({ timeout: 1_000 })
  await expect(member(page, lobby, userId)).toHaveCount(0, { timeout: 1_000 })

  await voice({ userId, selfMute: true })
  await expect(member(page, lounge, userId).locator('[data-mark="self-mute"]')).toBeVisible({
    timeout: 1_000,
  })

  await voice({ userId, channelId: null })
  await expect(member(page, lounge, userId)).toHaveCount(0, { timeout: 1_000 })
})

test('a room that is created on the page exists in Discord until it is ended', async ({ page }) => {
  const name = `Test room ${Date.now() % 100_000}`
  await signIn(page, 'grace')
  await page.getByTestId('create-room-name').fill(name)
  await page.getByTestId('create-room-submit').click()

  const card = page.getByTestId('room').filter({ hasText: name })
  await expect(card).toBeVisible()
  const channelId = (await card.getAttribute('data-channel-id')) ?? ''
  expect((await channels())[channelId]?.name).toBe(name)

  const userId = nobodyElse()
  await voice({ userId, channelId })
  await expect(member(page, channelId, userId)).toBeVisible({ timeout: 1_000 })

  await card.getByTestId('end-room').click()
  await card.getByTestId('end-room-confirm').click()
  await expect(card).toHaveCount(0)
  await expect.poll(async () => Object.keys(await channels())).not.toContain(channelId)
})

test('a room that Roomwire did not create is not ended, and the page shows why', async ({ page }) => {
  await signIn(page, 'ada')
  await room(page, lobby).getByTestId('end-room').click()
  await room(page, lobby).getByTestId('end-room-confirm').click()
  await expect(room(page, lobby).getByRole('alert')).toContainText('Roomwire did not make it')
  expect(Object.keys(await channels())).toContain(lobby)
})

test('a person who may only watch gets no buttons', async ({ page }) => {
  await signIn(page, 'linus')
  await expect(page.getByTestId('create-room-submit')).toHaveCount(0)
  await expect(page.getByTestId('end-room')).toHaveCount(0)
})

test('the staff room and its members never reach the page', async ({ page }) => {
  const received: string[] = []
  page.on('websocket', socket => socket.on('framereceived', frame => received.push(String(frame.payload))))
  page.on('response', async response => {
    if (response.url().includes('/api/')) received.push(await response.text().catch(() => ''))
  })
  const userId = nobodyElse()
  const staffName = (await channels())[staffRoom]?.name ?? ''
  expect(staffName).not.toBe('')
  await signIn(page, 'ada')

  await voice({ userId, channelId: staffRoom })
  await voice({ userId, channelId: lobby })
  await expect(member(page, lobby, userId)).toBeVisible()
  await voice({ userId, channelId: staffRoom })
  await expect(member(page, lobby, userId)).toHaveCount(0)
  await voice({ userId, channelId: null })

  await expect(room(page, staffRoom)).toHaveCount(0)
  await expect(page.getByText(staffName, { exact: true })).toHaveCount(0)
  expect(received.length).toBeGreaterThan(0)
  expect(received.filter(text => text.includes(staffRoom))).toEqual([])
})

test('the page loads only itself, and follows its security policy', async ({ page }) => {
  const broken: string[] = []
  page.on('console', message => {
    if (/Content Security Policy/i.test(message.text())) broken.push(message.text())
  })
  const response = await page.goto('/')
  const policy = response?.headers()['content-security-policy'] ?? ''
  expect(policy).toContain("default-src 'self'")
  expect(policy).not.toContain('unsafe')
  const foreign = new Set<string>()
  page.on('request', request => {
    const { origin } = new URL(request.url())
    if (origin !== new URL(page.url()).origin && request.resourceType() !== 'image') foreign.add(origin)
  })
  await signIn(page, 'ada')
  expect(broken).toEqual([])
  // The demo's issuer.
  expect(foreign.size).toBeLessThanOrEqual(1)
})
