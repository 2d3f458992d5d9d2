/** The columns of the table of runs: some are always there, config keys and metrics are chosen. */
import type { RunSummary } from "../api/contract";
import { metric as formatMetric, number, plain as formatValue } from "../text/format";
import { bestBy, fieldOf, shortKey, varyingKeys } from "./fields";

export interface Column {
  /** What it is sorted by, and its name in the address. */
  field: string;
  title: string;
  /** CSS pixels. */
  width: number;
  number: boolean;
  show: (run: RunSummary) => string;
}

const FIXED: readonly Column[] = [
  { field: "metric.train/loss", title: "loss", width: 74, number: true, show: (run) => ("train/loss" in run.last ? number(run.last["train/loss"]) : "–") },
  { field: "best", title: "eval at best", width: 98, number: true, show: (run) => (run.best ? number(run.best["eval/loss"]) : "–") },
  { field: "best_by", title: "best by", width: 168, number: true, show: bestBy },
  { field: "metric.train/tokens_per_second", title: "tokens/s", width: 82, number: true, show: (run) => shown(run, "metric.train/tokens_per_second") },
];

const CONFIG_AT_FIRST = 4; // columns; the others are in the menu

function shown(run: RunSummary, field: string): string {
  const value = fieldOf(run, field);
  if (value === undefined) return "–";
  return field.startsWith("metric.") ? formatMetric(field.slice(7), value as number | null) : formatValue(value);
}

const LETTER = 7.2; // CSS pixels a letter of a column's head takes, about

export function columnOf(field: string): Column {
  const fixed = FIXED.find((column) => column.field === field);
  if (fixed) return fixed;
  const title = shortKey(field);
  return { field, title, width: Math.min(170, Math.max(84, Math.round(title.length * LETTER) + 30)), number: true, show: (run) => shown(run, field) };
}

/** What a home shows before anybody has chosen: the settings that people vary most, if they vary here. */
export function firstColumns(runs: readonly RunSummary[]): string[] {
  const wanted = [/(^|\.)lr$/, /(^|\.)(width|rank)$/, /(^|\.)layers$/, /(^|\.)batch$/, /(^|\.)optimizer$/, /(^|\.)seed$/];
  const varying = varyingKeys(runs);
  const config = wanted.map((pattern) => varying.find((key) => pattern.test(key))).filter((key) => key !== undefined);
  const others = runs.some(({ best }) => best && best.by !== "eval/loss"); // else it would say the same again
  const fixed = FIXED.map(({ field }) => field).filter((field) => field !== "best_by" || others);
  return [...fixed, ...config.slice(0, CONFIG_AT_FIRST).map((key) => `config.${key}`)];
}
