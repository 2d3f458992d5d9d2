import { expect, test } from "vitest";
import type { RunSummary } from "../src/api/contract";
import { firstColumns } from "../src/runs/columns";
import { bestBy, fieldOf, numeric, varyingKeys } from "../src/runs/fields";
import { parseFilter } from "../src/runs/filter";
import { formatOrder, parseOrder, rowsOf, sortRuns } from "../src/runs/order";
import { axisOf, passes } from "../src/runs/parallel-model";

const run = (name: string, more: Partial<RunSummary> = {}): RunSummary => ({
  name, recipe: "r", stage: "pretrain", status: "finished", started: 0, updated: 0, step: 10, steps: 10, tokens: 100, attempts: 1,
  last: {}, best: null, saved: null, config: {}, tags: [], notes: "", group: "", ...more,
});

const runs = [
  run("first", { config: { "train.lr": 3e-4, "train.batch": "32 sequences" }, last: { "train/loss": 2.5 }, tags: ["base line"], status: "training" }),
  run("second", { config: { "train.lr": 3e-3, "train.batch": "8 sequences" }, last: { "train/loss": null }, group: "sweep" }),
  run("third", { config: { "train.lr": 1e-3, "train.batch": "128 sequences" }, last: { "train/loss": 1.5 }, notes: "the wide one" }),
];
const names = (found: readonly RunSummary[]): string[] => found.map(({ name }) => name);

test.each([
  ["", ["first", "second", "third"]],
  ["WIDE", ["third"]],
  ["lr>=1e-3", ["second", "third"]],
  ["train.lr<1e-3", ["first"]],
  ["lr=0.0010", ["third"]],
  ["status:train", ["first"]],
  ['tags:"base line"', ["first"]],
  ["-group:sweep lr>3e-4", ["third"]],
  ["loss>0", ["first", "third"]],
  ["nothing>1", []],
])("the filter %j finds %j", (text, found) => {
  expect(names(runs.filter(parseFilter(text)))).toEqual(found);
});

test("a config value, a metric and their short names are the same field", () => {
  expect([fieldOf(runs[0]!, "config.train.lr"), fieldOf(runs[0]!, "train.lr"), fieldOf(runs[0]!, "lr")]).toEqual([3e-4, 3e-4, 3e-4]);
  expect([fieldOf(runs[0]!, "metric.train/loss"), fieldOf(runs[0]!, "loss")]).toEqual([2.5, 2.5]);
});

test("text that begins with a number sorts by it", () => {
  expect([numeric("32 sequences"), numeric("1,024"), numeric("adamw"), numeric("3e-3")]).toEqual([32, 1024, null, 3e-3]);
  expect(names(sortRuns(runs, parseOrder("config.train.batch")))).toEqual(["second", "first", "third"]);
});

test("what lacks a value comes last, either way round", () => {
  expect(names(sortRuns(runs, parseOrder("metric.train/loss")))).toEqual(["third", "first", "second"]);
  expect(names(sortRuns(runs, parseOrder("-metric.train/loss")))).toEqual(["first", "third", "second"]);
  expect(formatOrder(parseOrder("-started"))).toBe("-started");
});

test("groups stand under a line of their own; a folded one keeps its line", () => {
  const rows = rowsOf(runs, "group", new Set(["sweep"]));
  expect(rows.map((row) => (row.kind === "group" ? `[${row.title}] ${row.runs.length}` : row.run.name))).toEqual(["[] 2", "first", "third", "[sweep] 1"]);
});

test("what the best save is the best by is said where it is not the loss", () => {
  const best = { step: 3, "eval/loss": 2.5, by: "gold/reward", lowest: false, value: 0.8125 };
  const [plain, picked] = [run("a", { best: { ...best, by: "eval/loss", lowest: true, value: 2.5 } }), run("b", { best })];
  expect([plain, picked, run("c")].map(bestBy)).toEqual(["eval/loss 2.5 ↓", "gold/reward 0.8125 ↑", "–"]);
  expect([firstColumns([plain]), firstColumns([plain, picked])].map((fields) => fields.includes("best_by"))).toEqual([false, true]);
  expect([fieldOf(picked, "best"), fieldOf(picked, "best_by")]).toEqual([2.5, 0.8125]);
});

test("settings that all runs share are no columns", () => {
  expect(varyingKeys([run("a", { config: { x: 1, y: 1 } }), run("b", { config: { x: 1, y: 2 } })])).toEqual(["y"]);
});

test("an axis spreads numbers by size, over decades by logarithm, and words evenly", () => {
  const linear = axisOf("config.v", [1, 2, 5].map((v) => run(String(v), { config: { v } })));
  expect([linear.log, linear.place(run("", { config: { v: 2 } }))]).toEqual([false, 0.25]);
  const log = axisOf("config.v", [1, 10, 100].map((v) => run(String(v), { config: { v } })));
  expect(log.place(run("", { config: { v: 10 } }))).toBeCloseTo(0.5);
  const words = axisOf("config.v", ["b", "a", "c"].map((v) => run(v, { config: { v } })));
  expect(words.ticks.map(({ label }) => label)).toEqual(["a", "b", "c"]);
  expect(words.place(run("", { config: { v: "b" } }))).toBe(0.5);
  expect(words.place(run(""))).toBeNull();
});

test("a brush keeps the runs that cross it", () => {
  const axis = axisOf("config.train.lr", runs);
  expect(names(runs.filter((each) => passes(each, [axis], { "config.train.lr": [0.9, 1] })))).toEqual(["second"]);
});
