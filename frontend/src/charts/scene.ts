/** What a chart shows, apart from how it is drawn: screen, PNG, SVG and CSV all start from it. */

import type uPlot from "uplot";
import type { Line } from "../api/contract";

export const keyOf = ({ run, metric }: Line): string => `${run}\n${metric}`;

export interface Curve {
  run: string;
  metric: string;
  /** In the legend. */
  label: string;
  colour: string;
  role: "main" | "raw" | "ghost" | "future";
  x: Float64Array;
  y: Float64Array;
  dash: readonly number[];
  width: number;
  alpha: number;
  /** Sparse curves, as evaluations are, show their points. */
  dots: boolean;
}

export interface Dot {
  run: string;
  step: number;
  x: number;
  y: number;
  colour: string;
  best: boolean;
}

export interface Mark {
  run: string;
  x: number;
  colour: string;
}

export interface Scene {
  curves: Curve[];
  dots: Dot[];
  marks: Mark[];
}

/** A scale of uPlot's as a function; where there is nothing to draw (not finite, or not positive on a logarithmic axis) NaN, not the edge. */
export function placing(plot: uPlot, scale: "x" | "y", canvas: boolean): (value: number) => number {
  const log = plot.scales[scale]!.distr === 3;
  return (value) => (Number.isFinite(value) && (!log || value > 0) ? plot.valToPos(value, scale, canvas) : NaN);
}

/** One curve to be drawn whole by `line`, in pieces where y is not a number; `x` and `y` map to the screen. */
export function trace(
  curve: Pick<Curve, "x" | "y">, x: (value: number) => number, y: (value: number) => number,
  moveTo: (x: number, y: number) => void, lineTo: (x: number, y: number) => void,
): void {
  let drawing = false;
  for (let index = 0; index < curve.x.length; index++) {
    const [px, py] = [x(curve.x[index]!), y(curve.y[index]!)];
    if (!Number.isFinite(px) || !Number.isFinite(py)) {
      drawing = false;
      continue;
    }
    if (drawing) lineTo(px, py);
    else moveTo(px, py);
    drawing = true;
  }
}
