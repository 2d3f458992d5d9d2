/** Parallel coordinates: an axis for each setting that varies, one for the result; drag along an axis to keep a part. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { RunSummary } from "../api/contract";
import { amend, go, useQuery } from "../state/route";
import { useColours } from "../state/runs";
import { scheme } from "../state/settings";
import { useStore } from "../state/store";
import { show, showJust, useVisible } from "../state/visible";
import { plain as formatValue } from "../text/format";
import { Menu } from "../ui/menu";
import { readColours } from "../charts/frame";
import { metricNames, shortKey, titleOf, varyingKeys } from "./fields";
import { axisOf, passes, type Brushes } from "./parallel-model";

const AXES_AT_FIRST = 5;
const HEIGHT = 440;
const [TOP, BOTTOM, SIDE] = [44, 18, 74]; // CSS pixels around the axes, for their labels
const REACH = 8; // CSS pixels to a line for it to be meant

export function Parallel({ runs }: { runs: readonly RunSummary[] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [brushes, setBrushes] = useState<Brushes>({});
  const [over, setOver] = useState<{ run: RunSummary; x: number; y: number } | null>(null);
  const drag = useRef<{ field: string; from: number } | null>(null);
  useStore(scheme, (state) => state.dark); // drawn again in the other theme's colours
  const colour = useColours();
  const visible = useVisible();
  const chosen = useQuery("axes");
  const varying = useMemo(() => varyingKeys(runs), [runs.length]);
  const metrics = useMemo(() => metricNames(runs), [runs.length]);
  const fields = useMemo(() => {
    if (chosen) return chosen.split(",");
    const likely = varying.filter((key) => /(^|\.)(lr|width|layers|batch|optimizer|rank|seed|heads|weight_decay)$/.test(key));
    return [...(likely.length ? likely : varying).slice(0, AXES_AT_FIRST).map((key) => `config.${key}`), runs.some((run) => run.best) ? "best" : "metric.train/loss"];
  }, [chosen, varying, runs.length > 0]);
  const axes = useMemo(() => fields.map((field) => axisOf(field, runs)), [fields.join(), runs]);
  const kept = runs.filter((run) => passes(run, axes, brushes));
  const xOf = (index: number): number => (axes.length > 1 ? SIDE + (index * (width - 2 * SIDE)) / (axes.length - 1) : width / 2);
  const yOf = (at: number): number => TOP + (1 - at) * (HEIGHT - TOP - BOTTOM);

  useEffect(() => {
    const observer = new ResizeObserver((entries) => setWidth(Math.max(entries[0]!.contentRect.width, fields.length * 110)));
    observer.observe(canvas.current!.parentElement!);
    return () => observer.disconnect();
  }, [fields.length]);

  useEffect(() => {
    const element = canvas.current!;
    const ratio = devicePixelRatio;
    element.width = width * ratio;
    element.height = HEIGHT * ratio;
    const ctx = element.getContext("2d")!;
    ctx.scale(ratio, ratio);
    const colours = readColours();
    const draw = (run: RunSummary, alpha: number, thick: number): void => {
      ctx.strokeStyle = alpha < 0.1 ? colours.faint : colour(run.name);
      ctx.globalAlpha = alpha;
      ctx.lineWidth = thick;
      ctx.beginPath();
      let before: [number, number] | null = null;
      axes.forEach((axis, index) => {
        const at = axis.place(run);
        if (at === null) {
          before = null;
          return;
        }
        const [x, y] = [xOf(index), yOf(at)];
        if (before) {
          const middle = (before[0] + x) / 2;
          ctx.bezierCurveTo(middle, before[1], middle, y, x, y);
        } else ctx.moveTo(x, y);
        before = [x, y];
      });
      ctx.stroke();
    };
    const keptNames = new Set(kept.map((run) => run.name));
    const shown = new Set(visible);
    for (const run of runs) if (!keptNames.has(run.name)) draw(run, 0.08, 1);
    for (const run of kept) draw(run, shown.has(run.name) ? 0.95 : 0.4, shown.has(run.name) ? 1.8 : 1);
    if (over) draw(over.run, 1, 3);
    ctx.globalAlpha = 1;
    axes.forEach((axis, index) => {
      const x = xOf(index);
      ctx.strokeStyle = colours.faint;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(x, yOf(0));
      ctx.lineTo(x, yOf(1));
      ctx.stroke();
      const brush = brushes[axis.field];
      if (brush) {
        ctx.fillStyle = colours.text;
        ctx.globalAlpha = 0.22;
        ctx.fillRect(x - 7, yOf(brush[1]), 14, yOf(brush[0]) - yOf(brush[1]));
        ctx.globalAlpha = 1;
      }
      ctx.fillStyle = colours.text;
      ctx.font = "600 12px system-ui, sans-serif";
      ctx.textAlign = "center";
      ctx.fillText(shortKey(axis.field), x, 18);
      ctx.font = "11px system-ui, sans-serif";
      for (const { at, label } of axis.ticks) {
        const text = formatValue(label);
        ctx.textAlign = "left";
        ctx.fillStyle = colours.panel; // behind it, so that lines do not run through the figures
        ctx.fillRect(x + 5, yOf(at) - 7, ctx.measureText(text).width + 6, 14);
        ctx.fillStyle = colours.text;
        ctx.fillText(text, x + 8, yOf(at) + 4);
      }
    });
  });

  const placeOf = (event: MouseEvent): { x: number; y: number; index: number } => {
    const box = canvas.current!.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const index = axes.findIndex((_, at) => Math.abs(xOf(at) - x) < 14);
    return { x, y, index };
  };
  const shareOf = (y: number): number => Math.min(1, Math.max(0, 1 - (y - TOP) / (HEIGHT - TOP - BOTTOM)));
  const runAt = (x: number, y: number): RunSummary | null => {
    let found: RunSummary | null = null;
    let least = REACH;
    for (const run of kept) {
      for (let index = 0; index + 1 < axes.length; index++) {
        if (x < xOf(index) || x > xOf(index + 1)) continue;
        const [a, b] = [axes[index]!.place(run), axes[index + 1]!.place(run)];
        if (a === null || b === null) continue;
        // The curve's y at x: the Bézier's control points make it nearly a smoothstep.
        const share = (x - xOf(index)) / (xOf(index + 1) - xOf(index));
        const eased = share * share * (3 - 2 * share);
        const away = Math.abs(yOf(a + (b - a) * eased) - y);
        if (away < least) [found, least] = [run, away];
      }
    }
    return found;
  };
  const onMove = (event: MouseEvent): void => {
    const { x, y } = placeOf(event);
    if (drag.current) {
      const to = shareOf(y);
      setBrushes({ ...brushes, [drag.current.field]: [Math.min(drag.current.from, to), Math.max(drag.current.from, to)] });
      return;
    }
    const run = runAt(x, y);
    setOver(run ? { run, x, y } : null);
  };
  const onDown = (event: MouseEvent): void => {
    const { x, y, index } = placeOf(event);
    const axis = axes[index];
    if (axis) {
      drag.current = { field: axis.field, from: shareOf(y) };
      const { [axis.field]: _, ...others } = brushes;
      setBrushes(others);
      return;
    }
    const run = runAt(x, y);
    if (run) go(["run", run.name]);
  };
  const choices = ["best", "best_by", ...varying.map((key) => `config.${key}`), ...metrics.map((name) => `metric.${name}`)];
  return (
    <section class="panel parallel">
      <header>
        <h3>Parallel coordinates</h3>
        <span class="quiet">{kept.length} of {runs.length} runs; drag along an axis to keep a part</span>
        {Object.keys(brushes).length > 0 && (
          <>
            <button type="button" onClick={() => showJust(kept.map((run) => run.name))}>Show these in charts</button>
            <button type="button" onClick={() => setBrushes({})}>Clear</button>
          </>
        )}
        <Menu
          label="Axes" text="Axes"
          items={choices.map((field) => ({
            text: titleOf(field), checked: fields.includes(field), keep: true,
            run: () => amend({ axes: (fields.includes(field) ? fields.filter((each) => each !== field) : [...fields, field]).join(",") }),
          }))}
        />
      </header>
      <div class="wide">
        <canvas
          ref={canvas} style={{ width: `${width}px`, height: `${HEIGHT}px` }} role="img" class={over ? "on-line" : ""}
          aria-label={`Parallel coordinates of ${kept.length} runs over ${axes.map(({ field }) => shortKey(field)).join(", ")}`}
          onMouseMove={onMove} onMouseDown={onDown} onMouseUp={() => (drag.current = null)} onMouseLeave={() => { drag.current = null; setOver(null); }}
          onContextMenu={(event) => { if (over) { event.preventDefault(); show([over.run.name], true); } }}
        />
        {over && <div class="tooltip" style={{ left: `${Math.min(over.x + 12, width - 260)}px`, top: `${over.y + 10}px` }}>{over.run.name}</div>}
      </div>
    </section>
  );
}
