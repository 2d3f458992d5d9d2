/** The binary answer of /api/series: a length, a JSON header, then six arrays of float64 for each series. */
import type { SeriesData } from "./contract";

interface Head {
  run: string;
  metric: string;
  raw: number;
  smooth: number;
  ghost: number;
  total: number;
  marks: number[];
  read: number;
}

const ALIGNMENT = 8; // bytes of a float64: views on the buffer must begin at a multiple of it

/** Views on `buffer`, not copies. Throws RangeError when it is cut short. */
export function decodeSeries(buffer: ArrayBuffer): SeriesData[] {
  const length = new DataView(buffer).getUint32(0, true);
  const heads = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as Head[];
  let at = Math.ceil((4 + length) / ALIGNMENT) * ALIGNMENT;
  const take = (count: number): Float64Array => {
    const part = new Float64Array(buffer, at, count);
    at += count * ALIGNMENT;
    return part;
  };
  return heads.map(({ run, metric, total, marks, read, raw, smooth, ghost }) => ({
    run,
    metric,
    total,
    marks,
    read,
    rawX: take(raw),
    rawY: take(raw),
    smoothX: take(smooth),
    smoothY: take(smooth),
    ghostX: take(ghost),
    ghostY: take(ghost),
  }));
}

function joined(a: Float64Array, b: Float64Array, from: number): Float64Array {
  const both = new Float64Array(a.length + b.length - from);
  both.set(a);
  both.set(b.subarray(from), a.length);
  return both;
}

function firstAfter(x: Float64Array, last: number): number {
  let index = 0;
  while (index < x.length && !(x[index]! > last)) index++;
  return index;
}

function append(x: Float64Array, y: Float64Array, moreX: Float64Array, moreY: Float64Array): [Float64Array, Float64Array] {
  const from = firstAfter(moreX, x.length ? x[x.length - 1]! : -Infinity);
  return from === moreX.length ? [x, y] : [joined(x, moreX, from), joined(y, moreY, from)];
}

/** A curve and what has been added to it since: of `tail` only the points after its own last are taken. */
export function appendTail(curve: SeriesData, tail: SeriesData): SeriesData {
  const [rawX, rawY] = append(curve.rawX, curve.rawY, tail.rawX, tail.rawY);
  const [smoothX, smoothY] = append(curve.smoothX, curve.smoothY, tail.smoothX, tail.smoothY);
  const marks = [...new Set([...curve.marks, ...tail.marks])].toSorted((a, b) => a - b);
  return { ...curve, rawX, rawY, smoothX, smoothY, marks, total: curve.total + rawX.length - curve.rawX.length };
}
