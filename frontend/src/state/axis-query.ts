/** How charts are looked at: what is on x, the zoom, smoothing and logarithms; all of it stands in the address. */
import type { XAxis } from "../api/contract";

export interface Axes {
  x: XAxis;
  zoom: readonly [number, number] | null;
  /** The weight of what came before in the moving mean, 0 to 0.999. */
  smoothing: number;
  logX: boolean;
  logY: boolean;
  ghosts: boolean;
}

export const X_AXES: readonly (readonly [XAxis, string])[] = [
  ["step", "step"],
  ["tokens", "tokens"],
  ["epoch", "epoch"],
  ["relative", "elapsed"],
  ["time", "clock"],
];

export const SMOOTHINGS = [0, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998] as const;
const LEAST_SMOOTHING = 0.999;

export function parseAxes(query: Readonly<Record<string, string>>): Axes {
  const zoom = (query.zoom ?? "").split(":").map(Number);
  const [from, to] = zoom;
  return {
    x: X_AXES.find(([name]) => name === query.x)?.[0] ?? "step",
    zoom: zoom.length === 2 && from! < to! ? [from!, to!] : null,
    smoothing: Math.min(LEAST_SMOOTHING, Math.max(0, Number(query.smooth ?? 0) || 0)),
    logX: query.logx === "1",
    logY: query.logy === "1",
    ghosts: query.ghosts !== "0",
  };
}
