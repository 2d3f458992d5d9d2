/** Looking things up in curves: sorted x, y that may have holes. */

/** Index of the first x that is not less than `value`. */
export function lowerBound(x: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the x nearest to `value`, -1 for an empty curve. */
export function nearest(x: ArrayLike<number>, value: number): number {
  if (!x.length) return -1;
  const after = lowerBound(x, value);
  if (after === 0) return 0;
  if (after === x.length) return after - 1;
  return value - x[after - 1]! <= x[after]! - value ? after - 1 : after;
}

/** y at `value`, on the line between its neighbours; NaN outside. */
export function interpolate(x: ArrayLike<number>, y: ArrayLike<number>, value: number): number {
  const after = lowerBound(x, value);
  if (after < x.length && x[after] === value) return y[after]!;
  if (after === 0 || after === x.length) return NaN;
  const share = (value - x[after - 1]!) / (x[after]! - x[after - 1]!);
  return y[after - 1]! + share * (y[after]! - y[after - 1]!);
}

export interface Extent {
  low: number;
  high: number;
}

/** The least and greatest finite y whose x lies in the range, and the neighbours just outside; only positive ones for a log axis. */
export function extentOf(x: ArrayLike<number>, y: ArrayLike<number>, from: number, to: number, positive: boolean, into: Extent): void {
  // x of a ghost begins anew at every attempt, so it cannot be searched by halves.
  for (let index = 0; index < x.length; index++) {
    const at = x[index]!;
    if (!(at >= from && at <= to)) continue;
    const value = y[index]!;
    if (!Number.isFinite(value) || (positive && value <= 0)) continue;
    if (value < into.low) into.low = value;
    if (value > into.high) into.high = value;
  }
}

const ROOM = 0.06; // of the height, above and below the curves; guess

const ROUNDING = 1e-12; // of a constant that is smoothed, and more

/** A range with some room; one that is empty or a point is widened. */
export function padded({ low, high }: Extent, log: boolean): [number, number] {
  if (!(low <= high)) return log ? [0.1, 10] : [0, 1];
  if (log) {
    const [bottom, top] = [Math.log10(low), Math.log10(high)];
    const room = Math.max((top - bottom) * ROOM, 0.02);
    return [10 ** (bottom - room), 10 ** (top + room)];
  }
  const room = high - low > ROUNDING * Math.max(Math.abs(low), Math.abs(high)) ? (high - low) * ROOM : Math.abs(high) * 0.1 || 1;
  // A quantity that never falls below zero is not drawn below it.
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

/** Another place for a window: moved by a share of its width and scaled about a point of it. */
export function moved([from, to]: readonly [number, number], shift: number, scale: number, about: number, log: boolean): [number, number] {
  const [a, b] = log ? [Math.log10(from), Math.log10(to)] : [from, to];
  const centre = a + (b - a) * about;
  const by = (b - a) * shift;
  const [low, high] = [centre + (a - centre) * scale + by, centre + (b - centre) * scale + by];
  return log ? [10 ** low, 10 ** high] : [low, high];
}

/** Where labels stand on a logarithmic axis: powers of ten; over few of them 1, 2 and 5 of each; over less than one even steps. */
export function logTicks(low: number, high: number): number[] {
  const decades = Math.log10(high / low);
  if (!(decades > 0)) return [low];
  if (decades < 0.8) {
    const rough = (high - low) / 5;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * unit >= rough)! * unit;
    return range(Math.ceil(low / step), Math.floor(high / step)).map((count) => tidy(count * step));
  }
  const skip = Math.ceil(decades / 8); // of many powers each second, third, ...
  const powers = range(Math.floor(Math.log10(low)), Math.floor(Math.log10(high))).filter((power) => power % skip === 0);
  const within = decades < 2.2 ? [1, 2, 5] : [1];
  return powers.flatMap((power) => within.map((factor) => tidy(factor * 10 ** power))).filter((tick) => tick >= low && tick <= high);
}

function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}

/** 0.30000000000000004 -> 0.3 */
function tidy(value: number): number {
  return Number(value.toPrecision(12));
}
