import { expect, test } from "vitest";
import type { Histograms, RunDetail, RunSummary, SeriesData } from "../src/api/contract";
import { compose, type Composition } from "../src/charts/compose";
import { toCsv } from "../src/charts/export";
import { extentOf, interpolate, logTicks, lowerBound, moved, nearest, padded, type Extent } from "../src/charts/geometry";
import { onCommonBins, worriesOf } from "../src/charts/histogram-model";
import { sectionsOf } from "../src/charts/panels";
import { trace } from "../src/charts/scene";
import { formatHash, parseHash } from "../src/state/address";
import { parseAxes } from "../src/state/axis-query";

test("searching in curves", () => {
  const x = [1, 3, 5];
  expect([0, 1, 2, 5, 6].map((value) => lowerBound(x, value))).toEqual([0, 0, 1, 2, 3]);
  expect([-9, 2.1, 3.9, 4.1, 99].map((value) => nearest(x, value))).toEqual([0, 1, 1, 2, 2]);
  expect(nearest([], 1)).toBe(-1);
  expect([interpolate(x, [10, 30, 20], 2), interpolate(x, [10, 30, 20], 5), interpolate(x, [10, 30, 20], 6)]).toEqual([20, 20, NaN]);
});

test("the range of y is that of the window, without what is not finite", () => {
  const extent: Extent = { low: Infinity, high: -Infinity };
  extentOf([1, 2, 3, 4], [9, NaN, -1, 2], 2, 4, false, extent);
  expect(extent).toEqual({ low: -1, high: 2 });
  const positive: Extent = { low: Infinity, high: -Infinity };
  extentOf([1, 2, 3, 4], [9, NaN, -1, 2], 2, 4, true, positive);
  expect(positive).toEqual({ low: 2, high: 2 });
});

test("an empty range or a single value still has room", () => {
  expect(padded({ low: Infinity, high: -Infinity }, false)).toEqual([0, 1]);
  const [low, high] = padded({ low: 3, high: 3 }, false);
  expect(low).toBeLessThan(3);
  expect(high).toBeGreaterThan(3);
  const [under, over] = padded({ low: 0.31, high: 0.31000000000000005 }, false); // a constant, smoothed
  expect(over - under).toBeGreaterThan(0.05);
  expect(padded({ low: 0.01, high: 1 }, false)[0]).toBe(0); // what is never negative is not drawn below zero
});

test("zooming about a point leaves it where it is", () => {
  const [from, to] = moved([0, 100], 0, 0.5, 0.25, false);
  expect([from, to]).toEqual([12.5, 62.5]);
  expect(moved([1, 100], 0.5, 1, 0, true).map(Math.round)).toEqual([10, 1000]);
});

test.each([
  [1e-5, 2, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]], [1.7, 42, [2, 5, 10, 20]], [0.45, 1.6, [0.5, 1, 1.5]], [13_800, 15_600, [14_000, 14_500, 15_000, 15_500]],
  [1, 1e12, [1, 100, 1e4, 1e6, 1e8, 1e10, 1e12]],
])("a logarithmic axis from %d to %d has labels at %j", (low, high, ticks) => expect(logTicks(low, high)).toEqual(ticks));

test("a curve is drawn in pieces where it has holes", () => {
  const drawn: string[] = [];
  trace({ x: Float64Array.of(1, 2, 3, 4, 5), y: Float64Array.of(1, 2, NaN, 4, 5) }, (v) => v, (v) => v, (x) => drawn.push(`M${x}`), (x) => drawn.push(`L${x}`));
  expect(drawn.join(" ")).toBe("M1 L2 M4 L5");
});

test("known metrics have a fixed place, others stand under their prefix", () => {
  const sections = sectionsOf(["train/loss", "eval/loss", "train/lr", "train/tokens", "train/epoch", "system/memory", "system/cpu", "eval/bits", "mine"], "");
  expect(sections.map(({ title, panels }) => [title, panels.map(({ title: name }) => name)])).toEqual([
    ["training", ["Loss", "Learning rate", "Memory"]], ["eval", ["eval/bits"]], ["other", ["mine"]], ["system", ["system/cpu"]],
  ]);
  expect(sections[0]!.panels[0]!.metrics).toEqual(["train/loss", "eval/loss"]);
  expect(sectionsOf(["train/loss", "system/cpu"], "CPU").map(({ title }) => title)).toEqual(["system"]);
});

test("what belongs to alignment stands together, the most telling first, and only what there is", () => {
  const names = ["train/loss", "eval/rewards/accuracies", "rewards/accuracies", "gold/kl", "gold/proxy", "gold/reward", "gold/distinct_1", "eval/rewards/margins"];
  const [, alignment, gold] = sectionsOf(names, "");
  expect(alignment!.panels.map(({ title, metrics, labels }) => [title, metrics, labels])).toEqual([
    ["Gold and proxy", ["gold/reward", "gold/proxy"], ["gold", "proxy"]],
    ["KL from the base", ["gold/kl"], undefined],
    ["Pairs ranked rightly", ["rewards/accuracies", "eval/rewards/accuracies"], ["train", "held out"]],
    ["Margin of rewards", ["eval/rewards/margins"], undefined],
  ]);
  expect(gold).toMatchObject({ title: "gold", panels: [{ metrics: ["gold/distinct_1"] }] });
  expect(sectionsOf(["train/loss"], "").map(({ title }) => title)).toEqual(["training"]);
  expect(sectionsOf(names, "rewards/margins").map(({ title }) => title)).toEqual(["alignment"]);
});

const series = (metric: string, x: number[], y: number[], more: Partial<Record<"smoothX" | "smoothY" | "ghostX" | "ghostY", number[]>> = {}): SeriesData => ({
  run: "r", metric, total: x.length, marks: [2], read: 1, rawX: Float64Array.from(x), rawY: Float64Array.from(y),
  smoothX: Float64Array.from(more.smoothX ?? []), smoothY: Float64Array.from(more.smoothY ?? []),
  ghostX: Float64Array.from(more.ghostX ?? []), ghostY: Float64Array.from(more.ghostY ?? []),
});

function scene(more: Partial<Composition>): ReturnType<typeof compose> {
  const summary = { name: "r", step: 3, steps: 5, tokens: 30, last: {}, started: 0, updated: 6 } as unknown as RunSummary;
  const detail = { checkpoints: [{ step: 2, tokens: 20, epoch: 0.2, refs: ["best"] }], schedule: { steps: [0, 1, 2, 3, 4, 5], lr: [0, 1, 2, 3, 2, 1] }, events: [], metrics: [] } as unknown as RunDetail;
  return compose({
    panel: { id: "loss", title: "Loss", kind: "loss", metrics: ["train/loss", "eval/loss"] }, runs: ["r"], series: new Map(), details: new Map([["r", detail]]),
    summaries: new Map([["r", summary]]), colour: () => "#123456", x: "step", smoothing: 0, ghosts: true, ...more,
  });
}

const loss = series("train/loss", [1, 2, 3], [9, 8, 7], { smoothX: [1, 2, 3], smoothY: [9, 8.5, 8], ghostX: [2, 3], ghostY: [8, 9] });

test("smoothing leaves the line as it is, faint; an evaluation is not smoothed; ghosts can be hidden", () => {
  const both = new Map([["r\ntrain/loss", loss], ["r\neval/loss", series("eval/loss", [2], [8.4], { smoothX: [2], smoothY: [1] })]]);
  const roles = (drawn: ReturnType<typeof compose>) => drawn.curves.map(({ metric, role }) => `${metric} ${role}`);
  expect(roles(scene({ series: both, smoothing: 0.9 }))).toEqual(["train/loss ghost", "train/loss raw", "train/loss main", "eval/loss main"]);
  const plain = scene({ series: both, ghosts: false });
  expect(roles(plain)).toEqual(["train/loss main", "eval/loss main"]);
  expect([...plain.curves[1]!.y]).toEqual([8.4]);
  expect(plain.marks).toEqual([{ run: "r", x: 2, colour: "#123456" }]);
});

test("a save lies on its evaluation, else on the training curve, on every axis", () => {
  const train = new Map([["r\ntrain/loss", loss]]);
  expect(scene({ series: train }).dots).toMatchObject([{ step: 2, x: 2, y: 8, best: true }]);
  expect(scene({ series: new Map([...train, ["r\neval/loss", series("eval/loss", [2], [8.4])]]) }).dots).toMatchObject([{ x: 2, y: 8.4 }]);
  const inTime = new Map([["r\ntrain/loss", series("train/loss", [100, 200, 300], [9, 8, 7])], ["r\ntrain/tokens", series("train/tokens", [100, 200, 300], [10, 20, 30])]]);
  expect(scene({ series: inTime, x: "time" }).dots).toMatchObject([{ x: 200, y: 8 }]);
});

test("the schedule goes on where the run stands", () => {
  const lr = new Map([["r\ntrain/lr", series("train/lr", [1, 2, 3], [1, 2, 3], { smoothX: [1], smoothY: [9] })]]);
  const panel = { id: "lr", title: "", kind: "schedule" as const, metrics: ["train/lr"] };
  const future = scene({ panel, series: lr }).curves.find(({ role }) => role === "future")!;
  expect([[...future.x], [...future.y]]).toEqual([[3, 4, 5], [3, 2, 1]]);
  expect(scene({ panel, series: lr, smoothing: 0.9 }).curves.map(({ role }) => role)).toEqual(["future", "main"]); // as it was, not smoothed
  const inTokens = scene({ panel, x: "tokens", series: new Map([["r\ntrain/lr", series("train/lr", [10, 20, 30], [1, 2, 3])]]) });
  expect([...inTokens.curves.find(({ role }) => role === "future")!.x]).toEqual([30, 40, 50]);
});

test("a table of points has no formulas in it", () => {
  const drawn = scene({ series: new Map([["r\ntrain/loss", loss]]), runs: ["r"], ghosts: false });
  drawn.curves[0]!.run = '=cmd|"x"';
  expect(toCsv(drawn, "step").split("\n").slice(0, 2)).toEqual(["run,metric,curve,step,value", `"'=cmd|""x""",train/loss,curve,1,9`]);
});

const histograms = (more: Partial<Histograms>): Histograms => {
  const steps = Array.from({ length: 12 }, (_, index) => index * 10);
  return { steps, low: steps.map(() => -1), high: steps.map(() => 1), counts: steps.map(() => [1, 2, 1]), zeros: steps.map(() => 0.1), norm: steps.map(() => 1), ...more };
};

test("gradients that vanish or explode are a reason to worry, healthy ones and weights are not", () => {
  const at = (index: number, value: number | null, otherwise: number) => Array.from({ length: 12 }, (_, place) => (place === index ? value : otherwise)) as number[];
  expect(worriesOf("gradients/a", histograms({}))).toEqual([]);
  expect(worriesOf("gradients/a", histograms({ zeros: at(9, 0.97, 0.1) }))).toMatchObject([{ kind: "vanishing", step: 90 }]);
  expect(worriesOf("gradients/a", histograms({ norm: at(10, 50, 1) }))).toMatchObject([{ kind: "exploding", step: 100 }]);
  expect(worriesOf("gradients/a", histograms({ norm: at(10, 1e-5, 1) }))).toMatchObject([{ kind: "vanishing", step: 100 }]);
  expect(worriesOf("gradients/a", histograms({ norm: at(2, null, 1) }))).toMatchObject([{ kind: "exploding", step: 20 }]);
  expect(worriesOf("weights/a", histograms({ zeros: at(9, 0.97, 0.1) }))).toEqual([]);
});

test("histograms of different ranges come onto common bins without losing a count", () => {
  const { low, high, density } = onCommonBins({ steps: [0, 1], low: [-1, -0.5], high: [1, 0.5], counts: [[1, 1], [4, 4]], zeros: [0, 0], norm: [1, 1] }, 4);
  expect([low, high]).toEqual([-1, 1]);
  expect(density.map((row) => [...row])).toEqual([[1, 1, 1, 1], [0, 1, 1, 0]]);
});

test("a view goes into an address and comes back", () => {
  const query = { x: "tokens", zoom: "1:2", runs: "a,b", metric: "eval/loss", empty: undefined };
  const hash = formatHash(["run", "a/b?c#d"], query);
  expect(parseHash(hash)).toEqual({ path: ["run", "a/b?c#d"], query: { x: "tokens", zoom: "1:2", runs: "a,b", metric: "eval/loss" } });
  expect(parseHash("#/%E0%A4%A").path).toEqual(["%E0%A4%A"]); // a broken address breaks nothing
});

test("what an address asks that makes no sense is not done", () => {
  expect(parseAxes({ x: "nothing", zoom: "5:1", smooth: "7", ghosts: "0" })).toMatchObject({ x: "step", zoom: null, smoothing: 0.999, ghosts: false });
  expect(parseAxes({ zoom: "1:5", logy: "1" })).toMatchObject({ zoom: [1, 5], logY: true });
});
