import { expect, test } from "vitest";
import { parseEvents } from "../src/api/stream";
import { secondsLeft } from "../src/run/remaining";
import { bytes, compact, duration, metric, number, percent, plain, position, splitName } from "../src/text/format";
import { diffLines, folds } from "../src/text/diff";
import { parseSave } from "../src/run/save-reference";

test.each([
  [0, "0"], [3e-4, "3e-4"], [0.00123456, "0.001235"], [2.5, "2.5"], [4.96184, "4.962"], [14495, "14,495"], [1234.56, "1,235"], [-0.5, "-0.5"],
  [1e12, "1e12"], [NaN, "NaN"], [null, "NaN"], [Infinity, "∞"],
])("number(%s) is %s", (value, shown) => expect(number(value)).toBe(shown));

test.each([[9999, "9,999"], [14500, "14.5k"], [999_960, "1M"], [2_048_000, "2.05M"], [1.5e9, "1.5B"], [3e12, "3T"], [-20_000, "-20k"]])(
  "compact(%d) is %s", (value, shown) => expect(compact(value)).toBe(shown),
);

test.each([[512, "512 B"], [999_700, "1 MB"], [17_300_000, "17.3 MB"], [24.8e9, "24.8 GB"]])("bytes(%d) is %s", (value, shown) => expect(bytes(value)).toBe(shown));

test.each([[5, "0:05"], [65, "1:05"], [3600, "1:00:00"], [90_061, "1d 1h"], [-65, "−1:05"], [NaN, "–"]])("duration(%d) is %s", (value, shown) => expect(duration(value)).toBe(shown));

test("a metric's unit follows from its name", () => {
  expect(metric("system/memory", 4e9)).toBe("4 GB");
  expect(metric("system/memory_percent", 41.5)).toBe("41.5");
  expect(metric("train/mfu", 0.314)).toBe("31.4%");
  expect(metric("train/tokens_per_second", 14_495)).toBe("14.5k");
  expect(metric("train/loss", null)).toBe("NaN");
  expect(percent(1)).toBe("100%");
});

test("settings keep their spelling", () => {
  expect([plain(1790), plain(true), plain(null), plain(3e-4), plain("adamw")]).toEqual(["1790", "true", "–", "3e-4", "adamw"]);
});

test("a place on x is said in the axis' unit", () => {
  expect([position("step", 3400), position("tokens", 2_048_000), position("epoch", 2.9), position("relative", 125)]).toEqual(["3,400", "2.05M", "2.9", "2:05"]);
});

test("a run's name falls into what and when", () => {
  expect(splitName("my-run-pretrain-2026-11-22_07.14.34")).toEqual({ what: "my-run-pretrain", when: "11-22 07:14:34" });
  expect(splitName("other")).toEqual({ what: "other", when: "" });
});

test("events may come in pieces", () => {
  const first = parseEvents('event: token\ndata: {"text":"a"}\n\nevent: tok');
  expect(first.events).toEqual([{ event: "token", data: '{"text":"a"}' }]);
  const second = parseEvents(`${first.rest}en\r\ndata: one\r\ndata: two\r\n\r\n: a comment\n\n`);
  expect(second).toEqual({ events: [{ event: "token", data: "one\ntwo" }], rest: "" });
});

test("a difference of texts is the least one", () => {
  expect(diffLines("a\nb\nc\n", "a\nc\nd\n").map(({ kind, text }) => `${kind} ${text}`)).toEqual(["same a", "gone b", "same c", "new d"]);
});

test("a save is named RUN@STEP, and a run may have @ in its name", () => {
  expect(parseSave("a@b@100")).toEqual({ run: "a@b", step: 100 });
  expect([parseSave(""), parseSave("a"), parseSave("@5"), parseSave("a@x")]).toEqual([null, null, null, null]);
});

test("what is left is counted at the newest speed, and only while it trains", () => {
  const run = { status: "training", step: 100, steps: 200, tokens: 1000, last: { "train/tokens_per_second": 50 } } as const;
  expect(secondsLeft(run)).toBe(20);
  expect(secondsLeft({ ...run, status: "finished" })).toBeNull();
  expect(secondsLeft({ ...run, last: {} })).toBeNull();
});

test("what is the same is folded but for three lines around a difference", () => {
  const lines = (count: number, changed: number[]): string => Array.from({ length: count }, (_, index) => (changed.includes(index) ? `new ${index}` : `line ${index}`)).join("\n");
  const found = folds(diffLines(lines(100, []), lines(100, [40, 47])));
  expect(found.map(({ from, to, folded }) => [to - from, folded])).toEqual([[37, true], [3 + 2 + 6 + 2 + 3, false], [49 + 0, true]]);
  expect(folds(diffLines("a", "a"))).toEqual([{ from: 0, to: 1, folded: false }]);
  expect(folds(diffLines(lines(20, []), lines(20, [])))).toEqual([{ from: 0, to: 20, folded: true }]);
});
