/** The charts' axes as the address has them, and changing them there. */
import type { XAxis } from "../api/contract";
import { parseAxes, type Axes } from "./axis-query";
import { amend, route, useRoute } from "./route";

export function useAxes(): Axes {
  return parseAxes(useRoute().query);
}

export function axes(): Axes {
  return parseAxes(route.get().query);
}

export function setZoom(range: readonly [number, number] | null): void {
  amend({ zoom: range ? range.map((value) => Number(value.toPrecision(12))).join(":") : undefined });
}

export function setAxis(x: XAxis): void {
  amend({ x: x === "step" ? undefined : x, zoom: undefined });
}

export function setSmoothing(value: number): void {
  amend({ smooth: value > 0 ? String(value) : undefined });
}

export function turnAxis(name: "logx" | "logy"): void {
  amend({ [name]: route.get().query[name] === "1" ? undefined : "1" });
}

export function turnGhosts(): void {
  amend({ ghosts: axes().ghosts ? "0" : undefined });
}
