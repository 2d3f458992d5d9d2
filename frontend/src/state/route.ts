/** Where the page is: the address' hash, followed and changed. */
import { formatHash, parseHash, type Route } from "./address";
import { createStore, useStore } from "./store";

export const route = createStore<Route>(parseHash(location.hash));

addEventListener("hashchange", () => route.set(parseHash(location.hash)));

/** Go to another view; the back button returns. */
export function go(path: readonly string[], query: Readonly<Record<string, string | undefined>> = {}): void {
  location.hash = formatHash(path, query);
}

/** Change what the address says of this view, without a new entry in the history. */
export function amend(change: Readonly<Record<string, string | undefined>>): void {
  const { path, query } = route.get();
  history.replaceState(null, "", formatHash(path, { ...query, ...change }));
  route.set(parseHash(location.hash));
}

export function useRoute(): Route {
  return useStore(route, (value) => value);
}

export function useQuery(key: string): string {
  return useStore(route, (value) => value.query[key] ?? "");
}
