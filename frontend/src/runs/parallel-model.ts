/** Parallel coordinates, apart from how they are drawn. */
import type { RunSummary, Value } from "../api/contract";
import { fieldOf, numeric } from "./fields";

export interface ParallelAxis {
  field: string;
  /** Ticks from bottom to top: place in 0..1 and what stands there. */
  ticks: { at: number; label: Value }[];
  log: boolean;
  /** Where a run's line crosses, 0 at the bottom, or null where it has no value. */
  place: (run: RunSummary) => number | null;
}

const DECADES = 100; // values whose largest is this many times the smallest are spread by their logarithm; guess

/** Numbers by size, other values evenly in the order of their names. */
export function axisOf(field: string, runs: readonly RunSummary[]): ParallelAxis {
  const values = runs.map((run) => fieldOf(run, field)).filter((value): value is Value => value !== undefined && value !== null && value !== "");
  const numbers = values.map(numeric);
  if (numbers.length && numbers.every((value) => value !== null)) {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const log = low > 0 && high / low >= DECADES;
    const spread = (value: number): number => (log ? Math.log(value) : value);
    const span = spread(high) - spread(low);
    const at = (value: number): number => (span ? (spread(value) - spread(low)) / span : 0.5);
    const distinct = [...new Set(numbers)].toSorted((a, b) => a - b);
    const shown = distinct.length <= 6 ? distinct : [low, (log ? Math.sqrt(low * high) : (low + high) / 2), high];
    return {
      field, log, ticks: shown.map((value) => ({ at: at(value), label: value })),
      place: (run) => {
        const value = numeric(fieldOf(run, field));
        return value === null ? null : at(value);
      },
    };
  }
  const distinct = [...new Set(values.map(String))].toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const at = new Map(distinct.map((value, index) => [value, distinct.length > 1 ? index / (distinct.length - 1) : 0.5]));
  return {
    field, log: false, ticks: distinct.map((label) => ({ at: at.get(label)!, label })),
    place: (run) => at.get(String(fieldOf(run, field) ?? "")) ?? null,
  };
}

export type Brushes = Readonly<Record<string, readonly [number, number]>>;

/** Whether a run crosses every brushed axis within its brush. */
export function passes(run: RunSummary, axes: readonly ParallelAxis[], brushes: Brushes): boolean {
  return axes.every((axis) => {
    const brush = brushes[axis.field];
    if (!brush) return true;
    const at = axis.place(run);
    return at !== null && at >= brush[0] - 1e-9 && at <= brush[1] + 1e-9;
  });
}
