/** Drawing a scene on a canvas, within a plot that uPlot has made the axes of. */
import type uPlot from "uplot";
import { placing, trace, type Curve, type Scene } from "./scene";

const DOT = 4; // radius of a save, CSS pixels
const POINT = 1.8; // and of an evaluation

export function paint(plot: uPlot, scene: Scene, colours: { panel: string; bad: string }): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const [x, y] = [placing(plot, "x", true), placing(plot, "y", true)];
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const { x: at, colour } of scene.marks) {
    ctx.strokeStyle = colour;
    ctx.globalAlpha = 0.65;
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x(at), bbox.top);
    ctx.lineTo(x(at), bbox.top + bbox.height);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour;
    ctx.beginPath(); // a flag at the top: here an attempt resumed
    ctx.moveTo(x(at), bbox.top);
    ctx.lineTo(x(at) + 7 * ratio, bbox.top + 3.5 * ratio);
    ctx.lineTo(x(at), bbox.top + 7 * ratio);
    ctx.fill();
  }
  ctx.lineJoin = "round";
  for (const curve of scene.curves) {
    ctx.strokeStyle = ctx.fillStyle = curve.colour;
    ctx.globalAlpha = curve.alpha;
    ctx.lineWidth = curve.width * ratio;
    ctx.setLineDash(curve.dash.map((length) => length * ratio));
    ctx.beginPath();
    trace(curve, x, y, (px, py) => ctx.moveTo(px, py), (px, py) => ctx.lineTo(px, py));
    ctx.stroke();
    ctx.setLineDash([]);
    if (curve.dots || curve.x.length === 1) points(ctx, curve, x, y, POINT * ratio);
    ctx.globalAlpha = 1;
    if (curve.role === "main" || curve.role === "raw") notFinite(ctx, curve, x, bbox, colours.bad, ratio);
  }
  ctx.restore();
  ctx.save();
  // Not clipped, so that the newest save, at the very edge, is whole.
  const inside = (px: number, py: number): boolean =>
    px >= bbox.left - 1 && px <= bbox.left + bbox.width + 1 && py >= bbox.top - 1 && py <= bbox.top + bbox.height + 1;
  for (const dot of scene.dots) {
    const [px, py] = [x(dot.x), y(dot.y)];
    if (!inside(px, py)) continue;
    ctx.beginPath();
    ctx.arc(px, py, DOT * ratio, 0, 2 * Math.PI);
    ctx.fillStyle = dot.best ? dot.colour : colours.panel;
    ctx.fill();
    ctx.lineWidth = 1.6 * ratio;
    ctx.strokeStyle = dot.colour;
    ctx.stroke();
    if (!dot.best) continue;
    ctx.beginPath();
    ctx.arc(px, py, (DOT + 3) * ratio, 0, 2 * Math.PI);
    ctx.lineWidth = ratio;
    ctx.stroke();
  }
  ctx.restore();
}

function points(ctx: CanvasRenderingContext2D, curve: Curve, x: (v: number) => number, y: (v: number) => number, radius: number): void {
  ctx.beginPath();
  for (let index = 0; index < curve.x.length; index++) {
    const [px, py] = [x(curve.x[index]!), y(curve.y[index]!)];
    if (!Number.isFinite(py)) continue;
    ctx.moveTo(px + radius, py);
    ctx.arc(px, py, radius, 0, 2 * Math.PI);
  }
  ctx.fill();
}

/** A value that was not finite has no place on y: a small cross at the bottom says where it was. */
function notFinite(ctx: CanvasRenderingContext2D, curve: Curve, x: (v: number) => number, bbox: uPlot.BBox, colour: string, ratio: number): void {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.4 * ratio;
  ctx.beginPath();
  const bottom = bbox.top + bbox.height - 5 * ratio;
  const arm = 2.5 * ratio;
  let last = -Infinity;
  for (let index = 0; index < curve.x.length; index++) {
    if (!Number.isNaN(curve.y[index]!)) continue;
    const px = x(curve.x[index]!);
    if (px - last < 4 * arm) continue;
    last = px;
    ctx.moveTo(px - arm, bottom - arm);
    ctx.lineTo(px + arm, bottom + arm);
    ctx.moveTo(px - arm, bottom + arm);
    ctx.lineTo(px + arm, bottom - arm);
  }
  ctx.stroke();
}

/** The dot within reach of a place on the screen (CSS pixels within the plot). */
export function dotAt(plot: uPlot, scene: Scene, left: number, top: number): Scene["dots"][number] | null {
  const REACH = 12; // CSS pixels: a finger is 24 wide (WCAG 2.5.8)
  let found = null;
  let least = REACH;
  for (const dot of scene.dots) {
    const away = Math.hypot(plot.valToPos(dot.x, "x") - left, plot.valToPos(dot.y, "y") - top);
    if (away < least) [found, least] = [dot, away];
  }
  return found;
}
