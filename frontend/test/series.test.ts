import { expect, test } from "vitest";
import { appendTail, decodeSeries } from "../src/api/series";

interface Given {
  head: object;
  arrays: number[][];
}

/** As polyana/dashboard/series.py writes it. */
function encode(given: Given[]): ArrayBuffer {
  const head = new TextEncoder().encode(JSON.stringify(given.map((each) => each.head)));
  const numbers = given.flatMap((each) => each.arrays.flat());
  const begin = Math.ceil((4 + head.length) / 8) * 8;
  const buffer = new ArrayBuffer(begin + numbers.length * 8);
  const view = new DataView(buffer);
  view.setUint32(0, head.length, true);
  new Uint8Array(buffer, 4).set(head);
  numbers.forEach((value, index) => view.setFloat64(begin + index * 8, value, true));
  return buffer;
}

const one = (run: string, raw: number[][], smooth: number[][] = [[], []], ghost: number[][] = [[], []]): Given => ({
  head: { run, metric: "train/loss", raw: raw[0]!.length, smooth: smooth[0]!.length, ghost: ghost[0]!.length, total: raw[0]!.length, marks: [2], read: 1 },
  arrays: [...raw, ...smooth, ...ghost],
});

// Names of every length, so that the header ends at each of the eight places before the padding.
test.each(["a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "ёлка"])("numbers begin at a multiple of eight, run %s", (run) => {
  const [first, second] = decodeSeries(encode([one(run, [[1, 2], [0.5, NaN]], [[1], [0.25]], [[3, NaN], [9, NaN]]), one("b", [[7], [8]])]));
  expect(first!.run).toBe(run);
  expect([...first!.rawX]).toEqual([1, 2]);
  expect([...first!.rawY]).toEqual([0.5, NaN]);
  expect([...first!.smoothY]).toEqual([0.25]);
  expect([...first!.ghostX]).toEqual([3, NaN]);
  expect([...second!.rawX, ...second!.rawY]).toEqual([7, 8]);
});

test("an answer that was cut short is an error, not a shorter curve", () => {
  const whole = encode([one("a", [[1, 2], [3, 4]])]);
  expect(() => decodeSeries(whole.slice(0, whole.byteLength - 8))).toThrow(RangeError);
});

test("of a tail only what is new is taken", () => {
  const [curve] = decodeSeries(encode([one("a", [[1, 2, 3], [10, 20, 30]], [[1, 2, 3], [1, 2, 3]])]));
  const [tail] = decodeSeries(encode([one("a", [[3, 4], [99, 40]], [[3, 4], [99, 4]])]));
  const both = appendTail(curve!, tail!);
  expect([...both.rawX]).toEqual([1, 2, 3, 4]);
  expect([...both.rawY]).toEqual([10, 20, 30, 40]);
  expect([...both.smoothY]).toEqual([1, 2, 3, 4]);
  expect([both.total, both.marks]).toEqual([4, [2]]);
});
