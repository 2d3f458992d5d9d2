/** Histograms over time, apart from how they are drawn, and when they are a reason to worry. */
import type { Histograms } from "../api/contract";

/** Share of exact zeros from which on a gradient is called dead; ReLU layers have up to half. Guess. */
const DEAD = 0.9;
/** Times the median of all norms before it; clipping at 1 makes honest ones differ by less. Guess. */
const EXPLODED = 20;
/** Below this share of the median a gradient has vanished. Guess. */
const VANISHED = 1e-3;
const ENOUGH = 8; // norms, before their median says anything

export interface Worry {
  kind: "vanishing" | "exploding";
  step: number;
  text: string;
}

export function worriesOf(name: string, { steps, zeros, norm }: Histograms): Worry[] {
  if (!name.startsWith("gradients/")) return [];
  const worries: Worry[] = [];
  const add = (kind: Worry["kind"], step: number, text: string): void => {
    if (!worries.some((worry) => worry.kind === kind)) worries.push({ kind, step, text });
  };
  const finite: number[] = [];
  steps.forEach((step, index) => {
    const size = norm[index];
    if (zeros[index]! >= DEAD) add("vanishing", step, `${Math.round(zeros[index]! * 100)}% of these gradients are exactly zero from step ${step.toLocaleString("en-US")} on`);
    if (size === null || size === undefined || !Number.isFinite(size)) {
      add("exploding", step, `the norm of these gradients was not finite at step ${step.toLocaleString("en-US")}`);
      return;
    }
    if (finite.length >= ENOUGH) {
      const median = finite.toSorted((a, b) => a - b)[finite.length >> 1]!;
      if (size > EXPLODED * median) add("exploding", step, `the norm of these gradients was ${Math.round(size / median)} times its usual size at step ${step.toLocaleString("en-US")}`);
      if (size < VANISHED * median) add("vanishing", step, `the norm of these gradients fell to ${(size / median).toExponential(0)} of its usual size at step ${step.toLocaleString("en-US")}`);
    }
    finite.push(size);
  });
  return worries;
}

/** Density of each histogram over common bins: [step][bin], each row's greatest is 1. Counts are spread over the bins they cover. */
export function onCommonBins({ low, high, counts }: Histograms, bins: number): { low: number; high: number; density: Float64Array[] } {
  const least = Math.min(...low);
  const most = Math.max(...high);
  const width = (most - least) / bins || 1;
  const density = counts.map((row, at) => {
    const out = new Float64Array(bins);
    const step = (high[at]! - low[at]!) / row.length;
    row.forEach((count, index) => {
      const from = (low[at]! + index * step - least) / width;
      const to = (low[at]! + (index + 1) * step - least) / width;
      if (to <= from) {
        out[Math.min(bins - 1, Math.max(0, Math.floor(from)))]! += count;
        return;
      }
      for (let bin = Math.max(0, Math.floor(from)); bin < Math.min(bins, Math.ceil(to)); bin++) {
        out[bin]! += (count * (Math.min(to, bin + 1) - Math.max(from, bin))) / (to - from);
      }
    });
    const top = Math.max(...out) || 1;
    return out.map((value) => value / top);
  });
  return { low: least, high: most, density };
}
