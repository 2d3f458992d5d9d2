/** Sorting and grouping of runs. */
import type { RunSummary } from "../api/contract";
import { fieldOf, numeric } from "./fields";

export interface Order {
  field: string;
  descending: boolean;
}

/** `-started` and `metric.eval/loss`, as in the address. */
export function parseOrder(text: string): Order {
  if (!text) return { field: "started", descending: true };
  return text.startsWith("-") ? { field: text.slice(1), descending: true } : { field: text, descending: false };
}

export function formatOrder({ field, descending }: Order): string {
  return `${descending ? "-" : ""}${field}`;
}

/** Numbers by size, text by letters; runs that lack the value come last either way. */
export function sortRuns(runs: readonly RunSummary[], { field, descending }: Order): RunSummary[] {
  const sign = descending ? -1 : 1;
  const keyed = runs.map((run) => ({ run, value: fieldOf(run, field) }));
  const lacking = (value: unknown): boolean => value === undefined || value === null || value === "" || Number.isNaN(value);
  return keyed
    .toSorted((a, b) => {
      if (lacking(a.value) || lacking(b.value)) return Number(lacking(a.value)) - Number(lacking(b.value));
      const [x, y] = [numeric(a.value), numeric(b.value)];
      if (x !== null && y !== null && x !== y) return sign * (x - y);
      return sign * String(a.value).localeCompare(String(b.value), "en", { numeric: true });
    })
    .map(({ run }) => run);
}

export type Row = { kind: "group"; title: string; runs: RunSummary[] } | { kind: "run"; run: RunSummary };

/** Rows of a table: groups in the order of their first run, each under a line of its own; folded ones without runs. */
export function rowsOf(runs: readonly RunSummary[], group: string, folded: ReadonlySet<string>): Row[] {
  if (!group) return runs.map((run) => ({ kind: "run", run }));
  const groups = new Map<string, RunSummary[]>();
  for (const run of runs) {
    const title = String(fieldOf(run, group) ?? "");
    const members = groups.get(title);
    if (members) members.push(run);
    else groups.set(title, [run]);
  }
  return [...groups].flatMap(([title, members]): Row[] => [
    { kind: "group", title, runs: members },
    ...(folded.has(title) ? [] : members.map((run): Row => ({ kind: "run", run }))),
  ]);
}
