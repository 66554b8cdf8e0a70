/** Checks the hub's address in the options. */

const example = 'Set it to the address of your hub, such as "https://hub.example".'

/**
 * Checks `url` of the options.
 *
 * @returns the address in lower case, without a slash at its end
 * @throws TypeError with what is wrong and what is allowed
 */
export function hubAddress(url: unknown): string {
  if (url === undefined || url === null || url === '') throw wrong('is missing', String(url))
  if (typeof url !== 'string') throw wrong('is no text', String(url))
  if (/[\s\p{Cc}]/u.test(url)) throw wrong('contains white space', url)
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(url)) throw wrong('has no scheme', url)
  const [, scheme = '', host = '', path = '', rest = ''] =
    /^([^:]*):\/\/([^/\\?#]*)([^?#]*)(.*)$/.exec(url) ?? []
  if (/^wss?$/i.test(scheme))
    throw wrong(`begins with "${scheme}://"`, url, 'The SDK opens the WebSocket by itself.')
  if (!/^https?$/i.test(scheme)) throw wrong(`has the scheme "${scheme}"`, url)
  if (host.includes('@')) throw wrong('contains a user name or a password', hidden(url))
  if (rest !== '') throw wrong('contains a query or a fragment', url.slice(0, -rest.length))
  if (/\/api\/ws\/*$/.test(path)) throw wrong('ends with "/api/ws"', url, 'The SDK adds that by itself.')
  if (host === '' || !isParsed(url)) throw wrong('has no valid host', url)
  return `${scheme.toLowerCase()}://${host.toLowerCase()}${path.replace(/\/+$/, '')}`
}

function wrong(what: string, url: string, more = ''): TypeError {
  return new TypeError(
    `createRoomwire: url ${what} (${url}). It must begin with "http://" or "https://". ${more}${more && ' '}${example}`,
  )
}

/** The address without a user name and a password. */
function hidden(url: string): string {
  return url.replace(/\/\/[^/]*@/, '//…@')
}

function isParsed(url: string): boolean {
  try {
    new URL(url)
    return true
  } catch {
    return false
  }
}
