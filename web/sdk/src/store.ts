/** Holds one immutable value and tells listeners when another takes its place. */
export interface Store<Value> {
  readonly get: () => Value
  /** Puts `value` in place; nobody is told if it is the same. */
  readonly set: (value: Value) => void
  /** Calls back after every change; the answer ends that. */
  readonly listen: (listener: () => void) => () => void
}

/** @param report told of a listener that throws: its failure is not the other listeners' problem */
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
    listen: listener => {
      // A listener given twice is told twice, and each end ends one.
      const own = () => listener()
      listeners.add(own)
      return () => {
        listeners.delete(own)
      }
    },
  }
}
