/** A value that components follow. */
import { useEffect, useReducer } from "preact/hooks";

export interface Store<T> {
  get: () => T;
  set: (change: Partial<T>) => void;
  subscribe: (listener: () => void) => () => void;
}

export function createStore<T extends object>(start: T): Store<T> {
  let value = start;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(change) {
      value = { ...value, ...change };
      for (const listener of listeners) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The part of a store that `select` picks; the component is drawn again only when that part is another value. */
export function useStore<T extends object, S>(store: Store<T>, select: (value: T) => S): S {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const selected = select(store.get());
  useEffect(() => {
    let before = selected;
    const look = (): void => {
      const now = select(store.get());
      if (!Object.is(now, before)) {
        before = now;
        again(0);
      }
    };
    look();
    return store.subscribe(look);
  }, [store, selected]);
  return selected;
}
