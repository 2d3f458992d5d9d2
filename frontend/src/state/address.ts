/** The address's hash is the view: `#/charts?x=tokens&smooth=0.9&zoom=100:200`. Every view can be sent to somebody as a link. */

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
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value).replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%40", "@")}`)
    .join("&");
  return `#/${path.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}
