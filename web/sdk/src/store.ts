/** Holds one immutable value, and calls listeners when another replaces it. */
export interface Store<Value> {
  readonly get: () => Value
  /** Replaces the value; calls no listener if it is the same. */
  readonly set: (value: Value) => void
  /** Calls `listener` after every change; the returned function ends that. */
  readonly subscribe: (listener: () => void) => () => void
}

/** @param report called with what a listener throws, so that the other listeners still run */
export function createStore<Value>(first: Value, report: (error: unknown) => void): Store<Value> {
  let value = first
  const listeners = new Set<() => void>()
  return {
    get: () => value,
    set: next => {
      if (Object.is(value, next)) return
      value = next
      for (const listener of [...listeners]) {
        try {
          listener()
        } catch (error) {
          report(error)
        }
      }
    },
    subscribe: listener => {
      // A listener that is subscribed twice is called twice, and each returned function ends one.
      const own = () => listener()
      listeners.add(own)
      return () => {
        listeners.delete(own)
      }
    },
  }
}
