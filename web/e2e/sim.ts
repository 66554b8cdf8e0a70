/** The simulated Discord, as the tests see and move it. */
const simUrl = process.env.SIM_URL ?? 'http://127.0.0.1:3900'

/** The simulator's guild and channels. */
export const guildId = '100000000000000001'
export const lobby = '100000000000000011'
export const lounge = '100000000000000012'
/** @everyone may not view it. */
export const staffRoom = '100000000000000013'

interface SimState {
  readonly guilds: Record<string, { readonly channels: Record<string, SimChannel> }>
}

interface SimChannel {
  readonly name: string
  readonly members?: Record<string, { readonly displayName: string }>
}

/** The channels as they truly are. */
export async function channels(): Promise<Record<string, SimChannel>> {
  const response = await fetch(`${simUrl}/_sim/state`)
  if (!response.ok) throw new Error(`the simulator answered ${response.status}`)
  const state = (await response.json()) as SimState
  return state.guilds[guildId]?.channels ?? {}
}

interface VoiceChange {
  readonly userId: string
  /** Left out: stays where they are; `null`: leaves. */
  readonly channelId?: string | null
  readonly selfMute?: boolean
  readonly selfDeaf?: boolean
  readonly selfVideo?: boolean
  readonly selfStream?: boolean
}

/** Somebody joins, moves, mutes, leaves. */
export async function voice(change: VoiceChange) {
  await post('/_sim/voice', { guildId, ...change })
}

/** What Discord does to the bot. */
export async function gateway(action: object) {
  await post('/_sim/gateway', action)
}

async function post(path: string, body: object) {
  const response = await fetch(simUrl + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok)
    throw new Error(`the simulator answered ${response.status} to ${path}: ${await response.text()}`)
}
