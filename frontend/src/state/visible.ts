/** Which runs the charts show: those that the address names, else those whose eyes are open. */
import { formatHash } from "./address";
import { amend, route, useRoute } from "./route";
import { runsStore, setEyes, showOnly, visibleRuns } from "./runs";
import { settings, useSettings } from "./settings";
import { useStore } from "./store";

const SEPARATOR = ",";

function named(query: Readonly<Record<string, string>>): string[] | null {
  return query.runs === undefined ? null : query.runs.split(SEPARATOR).filter(Boolean);
}

export function useVisible(): string[] {
  const { query } = useRoute();
  const runs = useStore(runsStore, (state) => state.runs);
  const eyes = useSettings((value) => value.eyes);
  const known = new Set(runs.map((run) => run.name));
  return named(query)?.filter((name) => known.has(name)) ?? visibleRuns(eyes, runs);
}

export function visibleNow(): string[] {
  return named(route.get().query) ?? visibleRuns(settings.get().eyes, runsStore.get().runs);
}

/** Open or shut the eyes of some runs. */
export function show(names: readonly string[], open: boolean): void {
  const inAddress = named(route.get().query);
  if (!inAddress) {
    setEyes(names, open);
    return;
  }
  const others = inAddress.filter((name) => !names.includes(name));
  amend({ runs: [...others, ...(open ? names : [])].join(SEPARATOR) || SEPARATOR });
}

export function showJust(names: readonly string[]): void {
  if (named(route.get().query)) amend({ runs: names.join(SEPARATOR) || SEPARATOR });
  else showOnly(names);
}


/** The address of just what is on the screen, runs included. */
export function shareableLink(): string {
  const { path, query } = route.get();
  const needsRuns = path[0] === "charts" || path[0] === "samples";
  return location.href.replace(/#.*$/, "") + formatHash(path, needsRuns ? { ...query, runs: visibleNow().join(SEPARATOR) } : query);
}

