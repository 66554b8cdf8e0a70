import { fileURLToPath } from 'node:url'
import { expect, test } from '@playwright/test'
import { lobby, lounge, voice } from './sim.js'

const folder = fileURLToPath(new URL('../../docs/pictures/', import.meta.url))

for (const colorScheme of ['light', 'dark'] as const) {
  for (const [size, viewport] of [
    ['wide', { width: 1280, height: 800 }],
    ['phone', { width: 390, height: 844 }],
  ] as const) {
    test(`picture: ${size}, ${colorScheme}`, async ({ browser, baseURL }) => {
      const context = await browser.newContext({
        ...(baseURL !== undefined && { baseURL }),
        colorScheme,
        viewport,
        deviceScaleFactor: 2,
      })
      const page = await context.newPage()
      await page.goto('/')
      await page.getByTestId('sign-in-ada').click()
      await expect(page.getByTestId('room').first()).toBeVisible()
      for (const [at, channelId] of [lobby, lobby, lobby, lounge, lounge].entries()) {
        await voice({ userId: `20000000000000000${at + 1}`, channelId, selfMute: at % 2 === 1 })
      }
      await expect(page.getByTestId('member').nth(4)).toBeVisible()
      // Nobody is caught in the middle of coming in.
      await page.evaluate(() =>
        Promise.allSettled(
          document
            .getAnimations()
            .filter(animation => animation.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY)
            .map(animation => animation.finished),
        ),
      )
      await page.screenshot({ path: `${folder}console-${size}-${colorScheme}.png` })
      await context.close()
    })
  }
}
