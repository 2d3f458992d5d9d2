/** The runs of the home, as the server last told of them. */
import { fetchRun, fetchRuns } from "../api/client";
import type { RunChange, RunDetail, RunSummary } from "../api/contract";
import { follow, type LinkState } from "../api/live";
import { noteChange, restLeft } from "./pace";
import { assignColours, colourAt } from "./palette";
import { scheme, settings, useSettings } from "./settings";
import { createStore, useStore } from "./store";

export interface RunsState {
  loaded: boolean;
  error: string;
  link: LinkState;
  /** Newest first. */
  runs: readonly RunSummary[];
  byName: ReadonlyMap<string, RunSummary>;
  details: ReadonlyMap<string, RunDetail>;
  /** Runs that were deleted while the page was open. */
  gone: ReadonlySet<string>;
  /** Runs that the server reads for the first time just now, and how far it is. */
  reading: ReadonlyMap<string, number>;
  /** Runs that cannot be shown, and why. */
  troubles: readonly string[];
}

export const runsStore = createStore<RunsState>({
  loaded: false, error: "", link: "waiting", runs: [], byName: new Map(), details: new Map(), gone: new Set(), reading: new Map(), troubles: [],
});

const SHOWN_AT_FIRST = 4; // runs whose eye is open when nobody has said anything: more would be a tangle; guess

function setRuns(list: readonly RunSummary[]): void {
  const runs = list.toSorted((a, b) => b.started - a.started);
  const names = runs.map((run) => run.name);
  const { colours } = settings.get();
  // Oldest first, so that a new run takes what is left and does not move the others.
  if (names.some((name) => colours[name] === undefined)) settings.set({ colours: { ...colours, ...assignColours(names.toReversed(), colours) } });
  runsStore.set({ runs, byName: new Map(runs.map((run) => [run.name, run])) });
}

const untold = new Map<string, RunChange>(); // what has changed and is not shown yet
let telling: ReturnType<typeof setTimeout> | undefined;

async function reload(): Promise<string> {
  try {
    const { runs, cursor, troubles = [] } = await fetchRuns();
    untold.clear();
    setRuns(runs);
    runsStore.set({ loaded: true, error: "", troubles });
    return String(cursor);
  } catch (error) {
    runsStore.set({ loaded: true, error: error instanceof Error ? error.message : String(error) });
    throw error;
  }
}

/** Show what has changed, in time. */
function update(changes: RunChange[]): void {
  for (const change of changes) untold.set(change.name, { ...untold.get(change.name), ...change });
  telling ??= setTimeout(tell, restLeft());
}

function tell(): void {
  telling = undefined;
  noteChange();
  const byName = new Map(runsStore.get().byName);
  let unknown = false;
  for (const change of untold.values()) {
    const run = byName.get(change.name);
    if (run && runsStore.get().details.has(run.name)) refreshDetail(run.name, tellsMore(run, change) ? SOON : LATER);
    if (run) byName.set(change.name, { ...run, ...change });
    else if ("started" in change && "config" in change) byName.set(change.name, change as RunSummary);
    else unknown = true;
  }
  untold.clear();
  setRuns([...byName.values()]);
  if (unknown) void reload().catch(() => undefined);
}

const EACH_STEP = new Set(["name", "step", "last", "status", "updated", "tokens"]);

/** Whether more than a step has happened: a save, an evaluation, another attempt, the end. */
function tellsMore(run: RunSummary, change: RunChange): boolean {
  if (change.status !== run.status || Object.keys(change).some((key) => !EACH_STEP.has(key))) return true;
  return Object.entries(change.last ?? {}).some(([name, value]) => name.startsWith("eval/") && value !== run.last[name]);
}

function reading(run: string, share: number): void {
  const now = new Map(runsStore.get().reading);
  if (share < 1) now.set(run, share);
  else now.delete(run);
  runsStore.set({ reading: now });
}

function gone(run: string): void {
  untold.delete(run);
  const byName = new Map(runsStore.get().byName);
  byName.delete(run);
  runsStore.set({ gone: new Set([...runsStore.get().gone, run]) });
  setRuns([...byName.values()]);
}

/** Read the runs and follow them for as long as the page is open; done when there is a first answer, or none. */
export function startRuns(): Promise<void> {
  const begin = (cursor: string): void => {
    follow(cursor, { update, gone, reading, lost: reload, state: (link) => runsStore.set({ link }) });
  };
  const PAUSE = 2000; // ms before a server that does not answer is asked again; guess
  const attempt = (): Promise<void> => reload().then(begin, () => void setTimeout(() => void attempt(), PAUSE));
  return attempt();
}

const SOON = 1_000; // ms between two readings of a run's details after a save or an evaluation; guess
const LATER = 60_000; // and while it only goes on: there may be warnings among its events; guess
const asked = new Map<string, number>();
const pending = new Map<string, ReturnType<typeof setTimeout>>();

/** What was read again, but what is the same as before is the old object, so that nobody draws it again. */
function keepSame(detail: RunDetail, before: RunDetail | undefined): RunDetail {
  const kept = Object.entries(before ?? {}).filter(([key, old]) => JSON.stringify(old) === JSON.stringify(detail[key as keyof RunDetail]));
  return { ...detail, ...Object.fromEntries(kept) };
}

async function readDetail(name: string): Promise<void> {
  asked.set(name, Date.now());
  try {
    const detail = await fetchRun(name);
    runsStore.set({ details: new Map(runsStore.get().details).set(name, keepSame(detail, runsStore.get().details.get(name))) });
    if (detail.read < 1) refreshDetail(name, SOON);
  } catch {
    asked.delete(name); // deleted, or the server is on its way out: what is shown stays, and is asked for again
  }
}

/** Read a run's details again, but not more often than every `pause` milliseconds. */
export function refreshDetail(name: string, pause: number): void {
  const wait = Math.max(0, pause - (Date.now() - (asked.get(name) ?? 0)));
  if (pending.has(name)) {
    if (pause === LATER) return;
    clearTimeout(pending.get(name));
  }
  const timer = setTimeout(() => {
    pending.delete(name);
    void readDetail(name);
  }, wait);
  pending.set(name, timer);
}

/** A run's details; asked for when first needed. */
export function useDetail(name: string): RunDetail | undefined {
  const detail = useStore(runsStore, (state) => state.details.get(name));
  if (!detail && name && !asked.has(name)) refreshDetail(name, 0);
  return detail;
}

export function useDetails(names: readonly string[]): ReadonlyMap<string, RunDetail> {
  const details = useStore(runsStore, (state) => state.details);
  for (const name of names) if (!details.has(name) && !asked.has(name)) refreshDetail(name, 0);
  return details;
}

/** Whether a run's eye is open: as it was set, else whether it is among the newest. */
export function isVisible(name: string, eyes: Readonly<Record<string, boolean>>, runs: readonly RunSummary[]): boolean {
  return eyes[name] ?? runs.slice(0, SHOWN_AT_FIRST).some((run) => run.name === name);
}

export function visibleRuns(eyes: Readonly<Record<string, boolean>>, runs: readonly RunSummary[]): string[] {
  return runs.filter((run) => isVisible(run.name, eyes, runs)).map((run) => run.name);
}

export function setEyes(names: readonly string[], open: boolean): void {
  settings.set({ eyes: { ...settings.get().eyes, ...Object.fromEntries(names.map((name) => [name, open])) } });
}

/** Show these runs and no other. */
export function showOnly(names: readonly string[]): void {
  const { runs } = runsStore.get();
  settings.set({ eyes: { ...Object.fromEntries(runs.map((run) => [run.name, false])), ...Object.fromEntries(names.map((name) => [name, true])) } });
}

export function useColours(): (run: string) => string {
  const places = useSettings((value) => value.colours);
  const dark = useStore(scheme, (value) => value.dark);
  return (run) => colourAt(places[run] ?? 0, dark);
}
