/** What a run can be sorted, filtered and grouped by: its own facts, its config's keys, its metrics. */
import type { RunSummary, Value } from "../api/contract";
import { number } from "../text/format";

/** `field` is a fact (status, step, ...), `config.KEY`, `metric.NAME`, or a bare KEY or NAME. */
export function fieldOf(run: RunSummary, field: string): Value | undefined {
  switch (field) {
    case "name":
    case "recipe":
    case "stage":
    case "status":
    case "started":
    case "updated":
    case "step":
    case "steps":
    case "tokens":
    case "attempts":
    case "notes":
    case "group":
      return run[field];
    case "tags":
    case "tag":
      return run.tags.join(" ");
    case "best":
      return run.best?.["eval/loss"];
    case "best_by":
      return run.best?.value;
    case "progress":
      return run.steps ? run.step / run.steps : undefined;
    default:
  }
  if (field.startsWith("config.")) return run.config[field.slice(7)];
  if (field.startsWith("metric.")) return run.last[field.slice(7)];
  if (field in run.config) return run.config[field];
  if (field in run.last) return run.last[field];
  // `lr` is what people write for stages.pretrain.train.lr
  const ending = Object.keys(run.config).find((key) => key.endsWith(`.${field}`));
  if (ending) return run.config[ending];
  const metric = Object.keys(run.last).find((name) => name.endsWith(`/${field}`));
  return metric ? run.last[metric] : undefined;
}

/** A number where it is one, or text that is one: 3e-3, "250 steps" -> 250. */
export function numeric(value: Value | undefined): number | null {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value !== "string" || !/^-?[\d.]/.test(value)) return null;
  const found = parseFloat(value.replaceAll(",", ""));
  return Number.isFinite(found) ? found : null;
}

/** Config keys on which runs differ, those that differ most first; keys that all share tell nothing. */
export function varyingKeys(runs: readonly RunSummary[]): string[] {
  const values = new Map<string, Set<string>>();
  for (const run of runs) {
    for (const [key, value] of Object.entries(run.config)) {
      let seen = values.get(key);
      if (!seen) values.set(key, (seen = new Set()));
      seen.add(JSON.stringify(value));
    }
  }
  return [...values].filter(([, seen]) => seen.size > 1).toSorted((a, b) => a[0].localeCompare(b[0])).map(([key]) => key);
}

export function metricNames(runs: readonly RunSummary[]): string[] {
  const names = new Set<string>();
  for (const run of runs) for (const name of Object.keys(run.last)) names.add(name);
  return [...names].toSorted();
}

/** What the best save is the best by: `gold/reward 0.812 ↑`, where more is better. */
export function bestBy({ best }: RunSummary): string {
  return best ? `${best.by} ${number(best.value)} ${best.lowest ? "↓" : "↑"}` : "–";
}

const TITLES: Readonly<Record<string, string>> = { best: "eval loss at best", best_by: "best by" };

/** As people read it in a menu. */
export function titleOf(field: string): string {
  return TITLES[field] ?? field.replace(/^(config|metric)\./, "");
}

/** The last part of a dotted key: what stands in a column's head. */
export function shortKey(key: string): string {
  return titleOf(key).split(".").slice(-2).join(".");
}
