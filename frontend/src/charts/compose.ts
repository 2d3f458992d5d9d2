/** From loaded series and what is known of the runs to a scene. */
import type { RunDetail, RunSummary, SeriesData, XAxis } from "../api/contract";
import { shortName } from "../text/format";
import { interpolate, lowerBound } from "./geometry";
import type { Panel } from "./panels";
import { keyOf, type Curve, type Scene } from "./scene";

const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 3], [9, 3, 2, 3]];
/** Tells when a save was made: a commit knows its tokens, and this curve the time at which there were so many. */
export const TOKENS = "train/tokens";
const SPARSE = 80; // points, under which each is shown; guess

export interface Composition {
  panel: Panel;
  runs: readonly string[];
  series: ReadonlyMap<string, SeriesData>;
  details: ReadonlyMap<string, RunDetail>;
  summaries: ReadonlyMap<string, RunSummary>;
  colour: (run: string) => string;
  x: XAxis;
  smoothing: number;
  ghosts: boolean;
}

export function compose(from: Composition): Scene {
  const scene: Scene = { curves: [], dots: [], marks: [] };
  for (const run of from.runs) {
    from.panel.metrics.forEach((metric, index) => addMetric(scene, from, run, metric, index));
    if (from.panel.kind === "schedule") addFuture(scene, from, run);
    if (from.panel.kind === "loss") addSaves(scene, from, run);
  }
  // Faint ones lie below.
  const order = { ghost: 0, raw: 1, future: 2, main: 3 };
  scene.curves.sort((a, b) => order[a.role] - order[b.role]);
  return scene;
}

function addMetric(scene: Scene, from: Composition, run: string, metric: string, index: number): void {
  const data = from.series.get(keyOf({ run, metric }));
  if (!data) return;
  const evaluation = metric.startsWith("eval/");
  const several = from.panel.metrics.length > 1;
  const name = from.runs.length > 1 ? shortName(run) : "";
  const label = [name, several || !name ? metric : ""].filter(Boolean).join(" · ");
  const colour = from.colour(run);
  const shared = { run, metric, label, colour, dash: DASHES[index % DASHES.length]! };
  const add = (more: Pick<Curve, "role" | "x" | "y" | "width" | "alpha"> & Partial<Curve>): void => {
    if (more.x.length) scene.curves.push({ ...shared, dots: false, ...more });
  };
  if (from.ghosts) add({ role: "ghost", x: data.ghostX, y: data.ghostY, width: 1.2, alpha: 0.38, dash: [] });
  // A schedule has no noise, and an evaluation is a mean over thousands of tokens already: smoothing would only shift them.
  if (from.smoothing > 0 && data.smoothX.length && !evaluation && from.panel.kind !== "schedule") {
    add({ role: "raw", x: data.rawX, y: data.rawY, width: 1, alpha: 0.24, dash: [] });
    add({ role: "main", x: data.smoothX, y: data.smoothY, width: 1.7, alpha: 1 });
  } else {
    add({ role: "main", x: data.rawX, y: data.rawY, width: evaluation ? 1.7 : 1.3, alpha: 1, dots: data.total <= SPARSE });
  }
  if (index === 0) for (const x of data.marks) scene.marks.push({ run, x, colour });
}

/** Where a run stands on the x axis, and how much of it a step is, taken from the run as a whole. `end`: of its curve. */
function pace(run: RunSummary, x: XAxis, end: number): { at: number; perStep: number } {
  const steps = Math.max(run.step, 1);
  switch (x) {
    case "tokens":
      return { at: run.tokens ?? NaN, perStep: (run.tokens ?? NaN) / steps };
    case "epoch": {
      const epoch = run.last["train/epoch"] ?? NaN;
      return { at: epoch, perStep: epoch / steps };
    }
    case "relative":
      return { at: end, perStep: end / steps };
    case "time":
      return { at: end, perStep: (run.updated - run.started) / steps };
    default:
      return { at: run.step, perStep: 1 };
  }
}

function addFuture(scene: Scene, from: Composition, run: string): void {
  const schedule = from.details.get(run)?.schedule;
  const summary = from.summaries.get(run);
  if (!schedule || !summary) return;
  const end = scene.curves.find((curve) => curve.run === run && curve.role === "main")?.x.at(-1) ?? NaN;
  const { at, perStep } = pace(summary, from.x, end);
  const first = lowerBound(schedule.steps, summary.step);
  if (first >= schedule.steps.length || !Number.isFinite(at)) return;
  const steps = schedule.steps.slice(first);
  scene.curves.push({
    run, metric: "schedule", label: "to come", colour: from.colour(run), role: "future",
    x: Float64Array.from(steps, (step) => at + (step - summary.step) * perStep),
    y: Float64Array.from(schedule.lr.slice(first)), dash: [1.5, 4], width: 1.6, alpha: 0.9, dots: false,
  });
}

/** Each save is a dot on the evaluation that was made with it, or on the training curve. */
function addSaves(scene: Scene, from: Composition, run: string): void {
  const detail = from.details.get(run);
  if (!detail) return;
  const tokenCurve = from.series.get(keyOf({ run, metric: TOKENS }));
  const main = scene.curves.filter((curve) => curve.run === run && curve.role === "main");
  const evaluation = main.find(({ metric }) => metric === "eval/loss");
  const training = main.find(({ metric }) => metric === "train/loss");
  for (const { step, tokens, epoch, refs } of detail.checkpoints) {
    const moment = (): number => (tokenCurve ? interpolate(tokenCurve.rawY, tokenCurve.rawX, tokens) : NaN);
    const x = from.x === "time" || from.x === "relative" ? moment() : { step, tokens, epoch }[from.x];
    if (!Number.isFinite(x)) continue;
    const on = [evaluation, training].map((curve) => (curve ? interpolate(curve.x, curve.y, x) : NaN));
    const y = on.find((value) => Number.isFinite(value));
    if (y !== undefined) scene.dots.push({ run, step, x, y, colour: from.colour(run), best: refs.includes("best") });
  }
}
