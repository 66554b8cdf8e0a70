/** Not a test: makes the pictures of the documents, when `SCREENSHOTS=1` asks for them. */
import { fileURLToPath } from 'node:url'
import { expect, type Page, test } from '@playwright/test'
import { lobby, lounge, voice } from './sim.js'

const folder = fileURLToPath(new URL('../../docs/pictures/', import.meta.url))
const user = (n: number) => String(200_000_000_000_000_000n + BigInt(n))

const sizes = [
  ['wide', { width: 1280, height: 680 }],
  ['phone', { width: 390, height: 844 }],
] as const

test.use({ deviceScaleFactor: 2 })

test('pictures', async ({ page }) => {
  await page.goto('/')
  await page.getByTestId('sign-in-grace').click()
  await expect(page.getByTestId('gateway')).toHaveAttribute('data-state', 'live')
  const gameNight = await openRoom(page, 'Game night', '6')
  const pairing = await openRoom(page, 'Pair programming', '2')
  await openRoom(page, 'Reading club', '8')

  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [size, viewport] of sizes) {
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize(viewport)
      // The demo's people do not sit still.
      await voice({ userId: user(1), channelId: lobby })
      await voice({ userId: user(2), channelId: lobby, selfMute: true })
      await voice({ userId: user(3), channelId: lounge, selfStream: true })
      await voice({ userId: user(4), channelId: gameNight, selfVideo: true })
      await voice({ userId: user(5), channelId: gameNight })
      await voice({ userId: user(6), channelId: gameNight, selfMute: true, selfDeaf: true })
      await voice({ userId: user(7), channelId: pairing, selfStream: true })
      await voice({ userId: user(8), channelId: pairing })
      await expect(page.locator(`[data-channel-id="${pairing}"] [data-testid="member"]`)).toHaveCount(2)
      await stillness(page)
      await page.screenshot({ path: `${folder}console-${size}-${colorScheme}.png` })
    }
  }
  while ((await page.getByTestId('end-room').count()) > 0) {
    const before = await page.getByTestId('room').count()
    await page.getByTestId('end-room').first().click()
    await page.getByTestId('end-room-confirm').click()
    await expect(page.getByTestId('room')).toHaveCount(before - 1)
  }
})

async function openRoom(page: Page, name: string, places: string): Promise<string> {
  await page.getByTestId('create-room-name').fill(name)
  await page.getByTestId('create-room-limit').fill(places)
  await page.getByTestId('create-room-submit').click()
  const card = page.getByTestId('room').filter({ hasText: name }).last()
  await expect(card).toBeVisible()
  await page.getByTestId('create-room-limit').fill('4')
  await page.getByTestId('create-room-limit').blur()
  return (await card.getAttribute('data-channel-id')) ?? ''
}

/** Nobody is caught in the middle of coming in. */
async function stillness(page: Page) {
  await page.mouse.move(0, 0)
  await page.evaluate(() =>
    Promise.allSettled(
      document
        .getAnimations()
        .filter(animation => animation.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY)
        .map(animation => animation.finished),
    ),
  )
}
