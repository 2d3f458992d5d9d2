/** What lies under the cursor: x, and the nearest value of each curve. */
import type uPlot from "uplot";
import type { XAxis } from "../api/contract";
import { useStore, type Store } from "../state/store";
import { metric as formatMetric, position, shortName } from "../text/format";
import { nearest } from "./geometry";
import type { Dot, Scene } from "./scene";

export interface Hover {
  left: number;
  top: number;
  x: number;
  plot: uPlot;
  scene: Scene;
  dot: Dot | null;
}

const MOST = 9; // rows; those nearest to the cursor stay
const MARK_REACH = 5; // CSS pixels

export function Tooltip({ hover, axis }: { hover: Store<{ at: Hover | null }>; axis: XAxis }) {
  const at = useStore(hover, (state) => state.at);
  if (!at) return null;
  const { plot, scene, left, top } = at;
  const rows = scene.curves
    .filter(({ role, dash }) => role === "main" || (role === "future" && dash.length))
    .flatMap((curve) => {
      const index = nearest(curve.x, at.x);
      if (index < 0 || Math.abs(plot.valToPos(curve.x[index]!, "x") - left) > 60) return [];
      const raw = scene.curves.find(({ role, run, metric }) => role === "raw" && run === curve.run && metric === curve.metric);
      const rawIndex = raw ? nearest(raw.x, at.x) : -1;
      return [{ curve, value: curve.y[index]!, x: curve.x[index]!, raw: raw && rawIndex >= 0 ? raw.y[rawIndex]! : null, away: Math.abs(plot.valToPos(curve.y[index]!, "y") - top) }];
    })
    .toSorted((a, b) => a.away - b.away)
    .slice(0, MOST)
    .toSorted((a, b) => b.value - a.value);
  const mark = scene.marks.find(({ x }) => Math.abs(plot.valToPos(x, "x") - left) < MARK_REACH);
  if (!rows.length && !mark) return null;
  const [offset, ratio] = [plot.bbox, devicePixelRatio];
  const right = left > plot.over.clientWidth / 2;
  const place = offset.left / ratio + left;
  const style = right ? { right: `${plot.width - place + 14}px` } : { left: `${place + 14}px` };
  return (
    <div class="tooltip" style={{ ...style, top: `${Math.min(offset.top / ratio + 4, top + 8)}px` }} role="presentation">
      <div class="at">{axis === "step" ? "step " : ""}{position(axis, rows[0]?.x ?? at.x)}</div>
      {mark && <div class="at">interrupted; resumed here</div>}
      {rows.map(({ curve, value, raw }) => (
        <div class="row" key={`${curve.run} ${curve.metric}`}>
          <i style={{ background: curve.colour }} />
          <span>{curve.label}</span>
          {raw !== null && <em>{formatMetric(curve.metric, raw)}</em>}
          <b>{formatMetric(curve.metric === "schedule" ? "lr" : curve.metric, value)}</b>
        </div>
      ))}
      {at.dot && <div class="at">{at.dot.best ? "best save" : "save"} of {shortName(at.dot.run)} at step {at.dot.step.toLocaleString("en-US")}; click to open</div>}
    </div>
  );
}
