import { useEffect, useLayoutEffect, useState } from 'react'

/** An item of a list. A removed item stays for a moment, so that its removal can be animated. */
export interface Delayed<Item> {
  readonly key: string
  readonly item: Item
  readonly leaving: boolean
}

/** The items, and for `ms` the removed ones, at their old places. */
export function useDelayedRemoval<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  ms: number,
): readonly Delayed<Item>[] {
  const [shown, setShown] = useState(() => merge([], items, keyOf, 0))
  // biome-ignore lint/correctness/useExhaustiveDependencies: `keyOf` does the same at every render
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
  before: readonly Delayed<Item>[],
  items: readonly Item[],
  keyOf: (item: Item) => string,
  ms: number,
): readonly Delayed<Item>[] {
  const next: Delayed<Item>[] = items.map(item => ({ key: keyOf(item), item, leaving: false }))
  if (ms === 0) return next
  const here = new Set(next.map(each => each.key))
  before.forEach((each, at) => {
    if (!here.has(each.key)) next.splice(Math.min(at, next.length), 0, { ...each, leaving: true })
  })
  return next
}

/** How long a removed item stays, milliseconds; 0 for people who prefer reduced motion. */
export function leavingMs(): number {
  return window.matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 220
}
