import type { ConsoleConfig } from '@roomwire/sdk'

/** Asks the hub how people sign in here. */
export async function loadConsoleConfig(signal: AbortSignal): Promise<ConsoleConfig> {
  const response = await fetch('/console.json', { signal })
  if (!response.ok) throw new Error(`The hub answered with status ${response.status}.`)
  const config = (await response.json()) as ConsoleConfig
  if (config.signIn?.kind !== 'demo' && config.signIn?.kind !== 'token') {
    throw new Error(
      'The hub is of another version than this page: it knows a way to sign in that this page does not.',
    )
  }
  return config
}
