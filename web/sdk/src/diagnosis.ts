/**
 * Why a hub cannot be reached. Browsers hide why a WebSocket or a request failed. So the diagnosis sends requests to the
 * same address. A readable answer shows which server answers; an opaque answer shows only that a server exists.
 */
import type { Environment } from './environment.js'
import type { FailureReport } from './failure.js'
import { parseJson } from './problem.js'

/** Finds out why the hub cannot be reached, for pages that have not reached it yet. */
export interface Diagnosis {
  /** Asks at most once in 10 s, and repeats its last answer in between. Never rejects; `null` after `prove` and `stop`. */
  readonly ask: () => Promise<FailureReport | null>
  /** The page has reached the hub: later failures are not mistakes in its settings. */
  readonly prove: () => void
  /** Ends pending requests. */
  readonly stop: () => void
}

/** The time limit of a request, milliseconds. */
const answerMsMax = 5_000
/** An answer is repeated for this long, because many pages may look for one dead hub. Milliseconds. */
const holdsMs = 10_000
/** An undecided answer is repeated for this long, milliseconds. */
const undecidedMs = 1_000

type Parts = Pick<Environment, 'fetch' | 'after' | 'now' | 'pageOrigin'>

/** @param base the hub's address */
export function createDiagnosis(base: string, environment: Parts): Diagnosis {
  let proven = false
  let last: { at: number; answer: Promise<FailureReport | null> } | null = null
  let stopped = new AbortController()
  /** How often in a row the hub answered, while no WebSocket opened. */
  let finds = 0

  /** The same address with the other scheme. */
  const other = base.startsWith('https:') ? base.replace(/^https/, 'http') : base.replace(/^http/, 'https')

  async function find(signal: AbortSignal): Promise<FailureReport | null> {
    const page = environment.pageOrigin()
    const here = await request(base, 'cors', signal)
    if (here) {
      const report = reportOf(here)
      finds = report.failure === 'websocket_blocked' ? finds + 1 : 0
      // The hub may have started after the attempt to connect.
      return finds === 1 ? { failure: 'unreachable', text: 'the hub cannot be reached', hint: null } : report
    }
    // A page over https may not send requests over http.
    const mayAskOther = other.startsWith('https:') || !page?.startsWith('https:')
    const [opaque, there, opaqueThere] = await Promise.all([
      request(base, 'no-cors', signal),
      mayAskOther ? request(other, 'cors', signal) : null,
      mayAskOther ? request(other, 'no-cors', signal) : null,
    ])
    if (there && isHub(there.text)) return elsewhere(other)
    if (opaque) return originNotAllowed(page)
    if (opaqueThere) return elsewhere(other)
    if (page?.startsWith('https:') && base.startsWith('http:')) return insecure(base)
    return {
      failure: 'unreachable',
      text: `nothing answers at ${base}`,
      hint: 'Check that the hub runs, and that url is its address. A Content-Security-Policy of the page must allow it in connect-src.',
    }
  }

  function reportOf({ movedTo, status, text }: Answer): FailureReport {
    if (movedTo !== null && isHub(text)) return elsewhere(movedTo)
    if (!isHub(text)) {
      return status >= 502 && status <= 504
        ? {
            failure: 'unreachable',
            text: `a proxy answers at ${base} with status ${status}, and the hub does not`,
            hint: 'Check that the hub runs, and that the proxy passes requests on to it.',
          }
        : {
            failure: 'not_a_hub',
            text: `what answers at ${base} is not a Roomwire hub`,
            hint: 'Set url to the address of your hub.',
          }
    }
    if (status === 404) {
      return {
        failure: 'not_a_hub',
        text: `a hub answers at ${base}, but has no WebSocket at ${address(base)}`,
        hint: 'Set url to the address of the hub alone, without a path that only the hub has, such as /api.',
      }
    }
    if (status === 403) return originNotAllowed(environment.pageOrigin())
    if (status >= 429) return { failure: 'unavailable', text: 'the hub is full or draining', hint: null }
    return {
      failure: 'websocket_blocked',
      text: 'the hub answers requests, but no WebSocket opens',
      hint: 'A reverse proxy must pass Upgrade and Connection on for /api/ws. If it does, the hub has no room for more connections.',
    }
  }

  function originNotAllowed(page: string | undefined): FailureReport {
    const noOrigin = page === undefined || page === 'null'
    return {
      failure: 'origin_not_allowed',
      text: noOrigin
        ? `the hub at ${base} does not answer a page without an origin`
        : `the hub at ${base} does not allow the origin ${page}`,
      hint: noOrigin
        ? 'The page was opened from a file or in a sandboxed frame. Serve it over http, and add its origin to WEB_ORIGIN of the hub.'
        : `Add ${page} to WEB_ORIGIN of the hub, and restart it. If it is listed, the hub is down behind its proxy, or ${base} is not its address.`,
    }
  }

  function elsewhere(right: string): FailureReport {
    return {
      failure: right === other ? 'wrong_scheme' : 'not_a_hub',
      text: `the hub answers at ${right}, not at ${base}`,
      hint: `Set url to "${right}".`,
    }
  }

  async function request(at: string, mode: 'cors' | 'no-cors', outer: AbortSignal): Promise<Answer | null> {
    if (outer.aborted) return null
    const end = new AbortController()
    const give = () => end.abort()
    outer.addEventListener('abort', give)
    const cancel = environment.after(answerMsMax, give)
    const ended = new Promise<null>(resolve => end.signal.addEventListener('abort', () => resolve(null)))
    const asked = async () => {
      const init = { mode, credentials: 'omit', cache: 'no-store', signal: end.signal } as const
      const response = await environment.fetch(address(at), init)
      const movedTo = response.redirected ? response.url.replace(/\/api\/ws$/, '') : null
      return { movedTo, status: response.status, text: await response.text() }
    }
    try {
      return await Promise.race([asked(), ended])
    } catch {
      return null
    } finally {
      cancel()
      outer.removeEventListener('abort', give)
    }
  }

  return {
    ask: () => {
      if (proven) return Promise.resolve(null)
      const now = environment.now()
      const agedMs = last ? now - last.at : Number.POSITIVE_INFINITY
      if (!last || agedMs >= (finds === 1 ? undecidedMs : holdsMs) || agedMs < 0) {
        const { signal } = stopped
        last = { at: now, answer: find(signal).then(report => (signal.aborted || proven ? null : report)) }
      }
      return last.answer
    },
    prove: () => {
      proven = true
      stopped.abort()
    },
    stop: () => {
      stopped.abort()
      stopped = new AbortController()
      last = null
      finds = 0
    },
  }
}

interface Answer {
  /** The target of redirects, if the page may see it. */
  readonly movedTo: string | null
  readonly status: number
  readonly text: string
}

/** The address of the WebSocket: a proxy may forward only this one to the hub. */
function address(base: string): string {
  return `${base}/api/ws`
}

/** Only a hub answers a request that is no handshake in this way. */
function isHub(text: string): boolean {
  const type = parseJson(text)?.type
  return typeof type === 'string' && type.startsWith('urn:roomwire:')
}

/** The page is loaded over https, and the hub is reached over http. */
export function insecure(base: string): FailureReport {
  return {
    failure: 'wrong_scheme',
    text: `a page over https cannot connect to ${base}`,
    hint: 'Serve the hub over https, for example behind a reverse proxy, and set url to that address.',
  }
}
