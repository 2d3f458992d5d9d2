/** What holds for all charts at once: x, smoothing, logarithms, ghosts, zoom. */
import { amend, useQuery } from "../state/route";
import { setAxis, setSmoothing, setZoom, turnAxis, turnGhosts, useAxes } from "../state/axes";
import { SMOOTHINGS, X_AXES } from "../state/axis-query";
import { shareableLink } from "../state/visible";
import { position } from "../text/format";
import { Copy } from "../ui/copy";

export function ChartToolbar() {
  const axes = useAxes();
  const wanted = useQuery("metric");
  const place = SMOOTHINGS.findLastIndex((value) => value <= axes.smoothing);
  return (
    <div class="toolbar charts-toolbar">
      <div class="segments" role="group" aria-label="What is on the x axis">
        {X_AXES.map(([axis, title]) => <button key={axis} type="button" aria-pressed={axes.x === axis} onClick={() => setAxis(axis)}>{title}</button>)}
      </div>
      <label class="smoothing" title="A moving mean over all points, with the weight of what came before; the line as it is stays, faint">
        <span>smooth</span>
        <input type="range" min={0} max={SMOOTHINGS.length - 1} step={1} value={place} aria-valuetext={axes.smoothing ? String(axes.smoothing) : "off"} onInput={(event) => setSmoothing(SMOOTHINGS[event.currentTarget.valueAsNumber]!)} />
        <output>{axes.smoothing || "off"}</output>
      </label>
      <div class="segments" role="group" aria-label="Logarithmic axes">
        <button type="button" aria-pressed={axes.logX} onClick={() => turnAxis("logx")}>log x</button>
        <button type="button" aria-pressed={axes.logY} onClick={() => turnAxis("logy")}>log y</button>
      </div>
      <button type="button" aria-pressed={axes.ghosts} onClick={turnGhosts} title="What earlier attempts logged before they were interrupted, and later ones did again">ghosts</button>
      {axes.zoom && (
        <button type="button" class="zoomed" onClick={() => setZoom(null)} title="Show all (0, or a double click)">
          {position(axes.x, axes.zoom[0])} – {position(axes.x, axes.zoom[1])} ✕
        </button>
      )}
      <input type="search" class="filter narrow" placeholder="find a metric" aria-label="Find a metric" value={wanted} onInput={(event) => amend({ metric: event.currentTarget.value })} />
      <Copy text={shareableLink} label="Copy a link to just this view">link</Copy>
    </div>
  );
}
