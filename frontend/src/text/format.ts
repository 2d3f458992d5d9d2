/** Numbers and moments as people read them. */
import type { Value, XAxis } from "../api/contract";

const SUFFIXES: readonly (readonly [number, string])[] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];

/** 14500 -> 14.5k; what is under ten thousand stays whole. */
export function compact(value: number): string {
  if (!Number.isFinite(value)) return number(value);
  for (const [unit, suffix] of SUFFIXES) {
    // A value that would round to 1000 of a unit is 1 of the next.
    if (Math.abs(value) >= unit * 0.9995 && (unit > 1e3 || Math.abs(value) >= 1e4)) return `${trim((value / unit).toPrecision(3))}${suffix}`;
  }
  return number(value);
}

function trim(digits: string): string {
  return digits.includes(".") && !digits.includes("e") ? digits.replace(/\.?0+$/, "") : digits;
}

/** Four significant digits; 3e-4 rather than 0.0003. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e9) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : trim(value.toPrecision(4));
}

export function bytes(count: number): string {
  if (Math.abs(count) < 1000) return `${Math.round(count)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = "B";
  for (const next of units) {
    if (Math.abs(value) < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return `${trim(value.toPrecision(3))} ${unit}`;
}

export function percent(share: number): string {
  return `${trim((share * 100).toPrecision(3))}%`;
}

/** 2:03, 1:02:03, 3d 4h. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.round(Math.abs(seconds));
  const sign = seconds < 0 ? "−" : "";
  const days = Math.floor(whole / 86400);
  const hours = Math.floor((whole % 86400) / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const two = (value: number): string => String(value).padStart(2, "0");
  if (days) return `${sign}${days}d ${hours}h`;
  if (hours) return `${sign}${hours}:${two(minutes)}:${two(whole % 60)}`;
  return `${sign}${minutes}:${two(whole % 60)}`;
}

/** How long ago, in one unit. */
export function ago(moment: number, now: number): string {
  const seconds = now - moment;
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)}s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ago`;
  return `${Math.floor(seconds / 86400)}d ago`;
}

export function clock(moment: number): string {
  return new Date(moment * 1000).toLocaleString("sv-SE").slice(0, 19);
}

/** A value of a metric, in the unit its name tells. */
export function metric(name: string, value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return number(value);
  switch (unitOf(name)) {
    case "bytes":
      return bytes(value);
    case "share":
      return percent(value);
    case "count":
      return compact(value);
    default:
      return number(value);
  }
}

export type Unit = "bytes" | "share" | "count" | "plain";

export function unitOf(name: string): Unit {
  if (/(^|[/_])(memory|bytes|disk_free|disk)([/_]|$)/.test(name) && !/(percent|share)/.test(name)) return "bytes";
  if (/(^|\/)(mfu|data_wait)$/.test(name)) return "share";
  if (/tokens/.test(name)) return "count";
  return "plain";
}

/** A place on the x axis. */
export function position(axis: XAxis, value: number): string {
  switch (axis) {
    case "tokens":
      return compact(value);
    case "time":
      return clock(value);
    case "relative":
      return duration(value);
    case "epoch":
      return trim(value.toFixed(value < 10 ? 3 : 2));
    default:
      return Math.round(value).toLocaleString("en-US");
  }
}

/** A setting: whole numbers as they are written, for a seed or a year is no quantity. */
export function plain(of: Value | undefined): string {
  if (of === undefined || of === null) return "–";
  if (typeof of === "number" && Number.isInteger(of) && Math.abs(of) < 1e6) return String(of);
  if (typeof of === "number") return number(of);
  return String(of);
}

/** A run's name in two parts: what it is, and when it began. */
export function splitName(name: string): { what: string; when: string } {
  const found = /^(.+)-(\d{4})-(\d\d-\d\d)_(\d\d)\.(\d\d)\.(\d\d)$/.exec(name);
  return found ? { what: found[1]!, when: `${found[3]} ${found[4]}:${found[5]}:${found[6]}` } : { what: name, when: "" };
}

export function shortName(name: string): string {
  const { what, when } = splitName(name);
  return when ? `${what} ${when}` : what;
}
