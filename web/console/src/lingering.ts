import { useEffect, useLayoutEffect, useState } from 'react'

/** An item of a list; one that has left stays for a moment, so that its leaving can be seen. */
export interface Lingering<Item> {
  readonly key: string
  readonly item: Item
  readonly leaving: boolean
}

/** The items, and for `ms` those that have just left, where they were. */
export function useLingering<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  ms: number,
): readonly Lingering<Item>[] {
  const [shown, setShown] = useState(() => merge([], items, keyOf, 0))
  // biome-ignore lint/correctness/useExhaustiveDependencies: `keyOf` is the same function in other clothes
  useLayoutEffect(() => {
    setShown(before => merge(before, items, keyOf, ms))
  }, [items, ms])
  const anyLeaving = shown.some(each => each.leaving)
  useEffect(() => {
    if (!anyLeaving) return
    const timer = setTimeout(() => setShown(before => before.filter(each => !each.leaving)), ms)
    return () => clearTimeout(timer)
  }, [anyLeaving, ms])
  return shown
}

function merge<Item>(
  before: readonly Lingering<Item>[],
  items: readonly Item[],
  keyOf: (item: Item) => string,
  ms: number,
): readonly Lingering<Item>[] {
  const next: Lingering<Item>[] = items.map(item => ({ key: keyOf(item), item, leaving: false }))
  if (ms === 0) return next
  const here = new Set(next.map(each => each.key))
  before.forEach((each, at) => {
    if (!here.has(each.key)) next.splice(Math.min(at, next.length), 0, { ...each, leaving: true })
  })
  return next
}

/** How long leaving takes, milliseconds; nothing moves for people who prefer that. */
export function leavingMs(): number {
  return window.matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 220
}
