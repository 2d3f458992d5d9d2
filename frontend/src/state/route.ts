/** The address's hash is the view: `#/charts?x=tokens&smooth=0.9&zoom=100:200`. Every view can be sent to somebody as a link. */
import { createStore, useStore } from "./store";

export interface Route {
  path: readonly string[];
  query: Readonly<Record<string, string>>;
}

export function parseHash(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#?\/?/, "").split("?");
  return {
    path: path.split("/").filter(Boolean).map(decodeSafely),
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

function decodeSafely(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** What an address says of a value in `query` that is undefined or empty is nothing. */
export function formatHash(path: readonly string[], query: Readonly<Record<string, string | undefined>> = {}): string {
  const search = Object.entries(query)
    .filter((entry): entry is [string, string] => Boolean(entry[1]))
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value).replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%2F", "/")}`)
    .join("&");
  return `#/${path.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

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
