import { useState } from 'react'

interface AvatarProps {
  /** Chooses the colour behind the initials. */
  readonly id: string
  readonly name: string
  readonly url?: string | null
}

/** A picture; initials on a colour until it is loaded, or if it fails. */
export function Avatar({ id, name, url = null }: AvatarProps) {
  const [broken, setBroken] = useState<string | null>(null)
  return (
    <span className={`avatar tone-${toneOf(id)}`} aria-hidden="true">
      {initialsOf(name)}
      {url !== null && url !== broken && (
        <img src={url} alt="" loading="lazy" referrerPolicy="no-referrer" onError={() => setBroken(url)} />
      )}
    </span>
  )
}

/** One of eight, the same for the same id. */
function toneOf(id: string): number {
  let sum = 0
  for (const char of id) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 65_521
  return sum % 8
}

/** Up to two letters: of the first and the last word. */
export function initialsOf(name: string): string {
  const words = name.split(/[\s._-]+/u).filter(Boolean)
  const first = firstLetter(words[0])
  const last = words.length > 1 ? firstLetter(words.at(-1)) : ''
  return (first + last).toLocaleUpperCase()
}

function firstLetter(word: string | undefined): string {
  return [...(word ?? '')].find(char => /[\p{L}\p{N}]/u.test(char)) ?? ''
}
