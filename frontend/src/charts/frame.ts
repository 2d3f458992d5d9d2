/** uPlot as a frame: axes, grid, cursor and selection. The curves are drawn by paint.ts, each with its own x. */
import uPlot from "uplot";
import type { XAxis } from "../api/contract";
import { compact, duration, metric as formatMetric, number } from "../text/format";
import { logTicks, moved } from "./geometry";
import { paint } from "./paint";
import type { Scene } from "./scene";

export interface Shown {
  scene: Scene;
  x: readonly [number, number];
  y: readonly [number, number];
}

export interface FrameOptions {
  width: number;
  height: number;
  xAxis: XAxis;
  metric: string;
  logX: boolean;
  logY: boolean;
  shown: () => Shown;
  /** The person has chosen another window; `y` only when it was drawn, too. */
  choose: (x: readonly [number, number] | null, y: readonly [number, number] | null) => void;
  hover: (place: { left: number; top: number } | null) => void;
  click: (place: { left: number; top: number }) => void;
}

export interface Colours {
  panel: string;
  text: string;
  faint: string;
  grid: string;
  bad: string;
}

export function readColours(): Colours {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  return { panel: read("--panel"), text: read("--text"), faint: read("--faint"), grid: read("--grid"), bad: read("--bad") };
}

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const LOGARITHMIC: Partial<uPlot.Axis> = { splits: (_, __, low, high) => logTicks(low, high), filter: (_, splits) => splits };
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const LEAST_MOVE = 4; // CSS pixels; less is a click

function xLabel(axis: XAxis, value: number, step: number): string {
  if (axis === "tokens") return compact(value);
  if (axis === "relative") return duration(value);
  if (axis === "time") {
    const date = new Date(value * 1000);
    const time = date.toLocaleTimeString("sv-SE").slice(0, step < 60 ? 8 : 5);
    return time === "00:00" || step >= 86400 ? date.toLocaleDateString("sv-SE").slice(5) : time;
  }
  return axis === "step" ? compact(value) : number(value);
}

export function makeFrame(host: HTMLElement, options: FrameOptions): uPlot {
  const colours = readColours();
  const seconds = options.xAxis === "relative" || options.xAxis === "time";
  const axis = { stroke: colours.faint, font: FONT, grid: { stroke: colours.grid, width: 1 }, ticks: { show: false } };
  let pressed: { x: number; y: number } | null = null;

  const plot = new uPlot(
    {
      width: options.width,
      height: options.height,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      scales: {
        x: { time: false, distr: options.logX ? 3 : 1, range: () => [...options.shown().x] },
        y: { distr: options.logY ? 3 : 1, range: () => [...options.shown().y] },
      },
      series: [{}, { paths: () => null, points: { show: false } }],
      axes: [
        {
          ...axis, size: 26, gap: 4, space: seconds ? 76 : 58, ...(seconds ? { incrs: SECONDS } : {}), ...(options.logX ? LOGARITHMIC : {}),
          values: (_, splits) => {
            const step = splits.length > 1 ? splits[1]! - splits[0]! : 1;
            return splits.map((split) => xLabel(options.xAxis, split, step));
          },
        },
        {
          ...axis, gap: 5, space: 34,
          // as wide as the widest label, so that no number is cut and none leaves a gap
          size: (self, values) => 14 + Math.max(22, ...(values ?? []).map((label) => (label ? measure(self.ctx, label) : 0))),
          ...(options.logY ? LOGARITHMIC : {}),
          values: (_, splits) => splits.map((split) => formatMetric(options.metric, round(split))),
        },
      ],
      cursor: {
        points: { show: false },
        sync: { key: `charts-${options.xAxis}`, filters: { pub: (type) => type === "mousemove" || type === "mouseleave", sub: () => true } },
        drag: { x: true, y: true, uni: 28, setScale: false },
        bind: {
          mousedown: (self, _target, handler) => (event) => {
            pressed = { x: event.clientX, y: event.clientY };
            if (event.shiftKey || event.button === 1) pan(self, event, options);
            else handler(event);
            return null;
          },
          dblclick: () => () => {
            options.choose(null, null);
            return null;
          },
        },
      },
      hooks: {
        draw: [(self) => paint(self, options.shown().scene, colours)],
        setCursor: [
          (self) => {
            const { left = -10, top = -10 } = self.cursor;
            if (self.over.matches(":hover")) options.hover(left >= 0 ? { left, top } : null);
          },
        ],
        setSelect: [
          (self) => {
            const { left, top, width, height } = self.select;
            if (width < LEAST_MOVE && height < LEAST_MOVE) return;
            const whole = { x: width >= self.over.clientWidth - 1, y: height >= self.over.clientHeight - 1 };
            const y: [number, number] | null = whole.y ? null : [self.posToVal(top + height, "y"), self.posToVal(top, "y")];
            const x: [number, number] | null = whole.x ? [...options.shown().x] : [self.posToVal(left, "x"), self.posToVal(left + width, "x")];
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            options.choose(x, y);
          },
        ],
      },
    },
    dataOf(options.shown()),
    host,
  );
  plot.over.addEventListener("mouseleave", () => options.hover(null));
  // Not `click`: uPlot swallows it when the press is a fraction of a pixel away from the last move.
  plot.over.addEventListener("mouseup", (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > LEAST_MOVE) return;
    const box = plot.over.getBoundingClientRect();
    options.click({ left: event.clientX - box.left, top: event.clientY - box.top });
  });
  plot.over.addEventListener("touchstart", (event) => {
    if (event.touches.length === 2) pinch(plot, event, options);
  }, { passive: true });
  plot.over.addEventListener("wheel", (event) => wheel(plot, event, options), { passive: false });
  return plot;
}

/** What uPlot is given: the window's corners. Its own series draws nothing. */
export function dataOf({ x, y }: Shown): uPlot.AlignedData {
  return [[...x], [...y]];
}

function round(value: number): number {
  return Number(value.toPrecision(12));
}

function measure(ctx: CanvasRenderingContext2D, label: string): number {
  ctx.save();
  ctx.font = FONT;
  const { width } = ctx.measureText(label);
  ctx.restore();
  return width;
}

function pan(plot: uPlot, start: MouseEvent, options: FrameOptions): void {
  const window = options.shown().x;
  const move = (event: MouseEvent): void => {
    options.choose(moved(window, -(event.clientX - start.clientX) / plot.over.clientWidth, 1, 0, options.logX), null);
  };
  const end = (): void => {
    removeEventListener("mousemove", move);
    removeEventListener("mouseup", end);
  };
  addEventListener("mousemove", move);
  addEventListener("mouseup", end);
}

/** Two fingers: what was between them stays between them. */
function pinch(plot: uPlot, start: TouchEvent, options: FrameOptions): void {
  const box = plot.over.getBoundingClientRect();
  const window = options.shown().x;
  const fingers = ({ touches }: TouchEvent): { centre: number; apart: number } => {
    const [a, b] = [touches[0]!.clientX, touches[1]!.clientX];
    return { centre: ((a + b) / 2 - box.left) / box.width, apart: Math.max(20, Math.abs(a - b)) };
  };
  const before = fingers(start);
  const move = (event: TouchEvent): void => {
    if (event.touches.length !== 2) return;
    event.preventDefault();
    const now = fingers(event);
    const scale = before.apart / now.apart;
    options.choose(moved(window, (before.centre - now.centre) * scale, scale, before.centre, options.logX), null);
  };
  const end = (): void => plot.over.removeEventListener("touchmove", move);
  plot.over.addEventListener("touchmove", move, { passive: false });
  plot.over.addEventListener("touchend", end, { once: true });
  plot.over.addEventListener("touchcancel", end, { once: true });
}

/** With Ctrl (or a pinch on a touchpad, which arrives as such) it zooms, with Shift it pans; alone it scrolls the page. */
function wheel(plot: uPlot, event: WheelEvent, options: FrameOptions): void {
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : 0;
  if (!event.ctrlKey && !event.metaKey && !sideways) return;
  event.preventDefault();
  const box = plot.over.getBoundingClientRect();
  const about = (event.clientX - box.left) / box.width;
  const window = options.shown().x;
  options.choose(sideways ? moved(window, sideways / 800, 1, 0, options.logX) : moved(window, 0, Math.exp(event.deltaY / 300), about, options.logX), null);
}
