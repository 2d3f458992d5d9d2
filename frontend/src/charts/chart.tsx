/** One chart: it loads what its window needs, draws it, and answers to mouse and keyboard. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import type { Line, SeriesQuery } from "../api/contract";
import { setZoom, useAxes } from "../state/axes";
import { runsStore, useColours, useDetails } from "../state/runs";
import { scheme } from "../state/settings";
import { createStore, useStore } from "../state/store";
import { metric as formatMetric, percent, shortName } from "../text/format";
import { openCheckpoint } from "../run/checkpoint-state";
import { compose, TOKENS } from "./compose";
import { dataOf, makeFrame, type Shown } from "./frame";
import { extentOf, moved, padded, type Extent } from "./geometry";
import { ChartMenu } from "./menu";
import { dotAt } from "./paint";
import type { Panel } from "./panels";
import type { Scene } from "./scene";
import { Tooltip, type Hover } from "./tooltip";
import { useSeries } from "./use-series";

const BUCKETS = 128; // widths are rounded up to a multiple, so that charts of nearly one size share requests
const SETTLE = 120; // ms that a window must stand still before its points are fetched
const MARGIN = 0.05; // of the window, fetched on either side so that lines reach the edges

interface ChartProps {
  panel: Panel;
  runs: readonly string[];
  alone: boolean;
  onAlone: (() => void) | undefined;
}

function useSettled<T>(value: T, key: string): T {
  const [settled, set] = useState({ key, value });
  useEffect(() => {
    if (key === settled.key) return undefined;
    const timer = setTimeout(() => set({ key, value }), SETTLE);
    return () => clearTimeout(timer);
  }, [key, settled.key]);
  return settled.value;
}

/** A list, the one of before while its members are the same. */
function useSame<T>(list: readonly T[]): readonly T[] {
  const held = useRef(list);
  if (list.length !== held.current.length || list.some((each, index) => each !== held.current[index])) held.current = list;
  return held.current;
}

const NEAR = 240; // CSS pixels beyond what is seen within which a chart is loaded already; guess

interface Place {
  width: number;
  height: number;
  seen: boolean;
}

/** How large the style sheet lets the plot be, and whether the chart is near what is seen: what nobody scrolls to is not loaded. Known at once, so that the first points are asked for before the first frame. */
function usePlace(figure: { current: HTMLElement | null }, host: { current: HTMLElement | null }): Place {
  const [place, set] = useState<Place>({ width: 0, height: 0, seen: false });
  useLayoutEffect(() => {
    const { top, bottom } = figure.current!.getBoundingClientRect();
    const { width, height } = host.current!.getBoundingClientRect();
    set({ width: Math.floor(width), height: Math.floor(height), seen: top < innerHeight + NEAR && bottom > -NEAR });
    const sight = new IntersectionObserver((entries) => {
      const now = entries.at(-1)!.isIntersecting;
      set((before) => (before.seen === now ? before : { ...before, seen: now }));
    }, { rootMargin: `${NEAR}px` });
    const size = new ResizeObserver((entries) => {
      const now = { width: Math.floor(entries[0]!.contentRect.width), height: Math.floor(entries[0]!.contentRect.height) };
      set((before) => (before.width === now.width && before.height === now.height ? before : { ...before, ...now }));
    });
    sight.observe(figure.current!);
    size.observe(host.current!);
    return () => {
      sight.disconnect();
      size.disconnect();
    };
  }, []);
  return place;
}

function windowOf(scene: Scene, zoom: readonly [number, number] | null, logX: boolean): [number, number] {
  if (zoom) return [...zoom];
  let [low, high] = [Infinity, -Infinity];
  for (const { x } of scene.curves) {
    for (const value of x) {
      if (!Number.isFinite(value) || (logX && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (!(low <= high)) return logX ? [1, 10] : [0, 1];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

export function Chart({ panel, runs, alone, onAlone }: ChartProps) {
  const axes = useAxes();
  const figure = useRef<HTMLElement>(null);
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const hover = useMemo(() => createStore<{ at: Hover | null }>({ at: null }), []);
  const [yZoom, setYZoom] = useState<readonly [number, number] | null>(null);
  const [ownLog, setOwnLog] = useState<boolean | null>(null);
  const logY = ownLog ?? axes.logY;
  const { width, height, seen } = usePlace(figure, host);
  const dark = useStore(scheme, (state) => state.dark);
  const details = useDetails(runs);
  const summaries = useStore(runsStore, (state) => state.byName);
  const colour = useColours();

  const lines = useMemo<Line[]>(() => {
    const has = (run: string, metric: string): boolean => details.get(run)?.metrics.includes(metric) || metric in (summaries.get(run)?.last ?? {});
    const inTime = axes.x === "time" || axes.x === "relative";
    const metrics = panel.kind === "loss" && inTime ? [...panel.metrics, TOKENS] : panel.metrics;
    return runs.flatMap((run) => metrics.filter((metric) => has(run, metric)).map((metric) => ({ run, metric })));
  }, [runs.join("\n"), panel.metrics.join("\n"), axes.x, summaries, details]);

  const zoom = useSettled(axes.zoom, String(axes.zoom));
  const query = useMemo<SeriesQuery>(() => {
    const margin = zoom ? (zoom[1] - zoom[0]) * MARGIN : 0;
    return {
      x: axes.x, from: zoom ? zoom[0] - margin : null, to: zoom ? zoom[1] + margin : null,
      width: Math.max(1, Math.ceil(width / BUCKETS)) * BUCKETS, smoothing: axes.smoothing,
    };
  }, [axes.x, String(zoom), Math.ceil(width / BUCKETS), axes.smoothing]);
  const { series, loading, error } = useSeries(lines, query, seen && width > 0);

  const scene = useMemo(
    () => compose({ panel, runs, series, details, summaries, colour, x: axes.x, smoothing: axes.smoothing, ghosts: axes.ghosts }),
    [panel, runs.join("\n"), series, useSame(panel.kind === "plain" ? [] : runs.flatMap((run) => [details.get(run)?.checkpoints, details.get(run)?.schedule])), panel.kind === "schedule" ? summaries : null, dark, axes.x, axes.smoothing, axes.ghosts],
  );
  const shown = useMemo<Shown>(() => {
    const x = windowOf(scene, axes.zoom, axes.logX);
    const extent: Extent = { low: Infinity, high: -Infinity };
    for (const curve of scene.curves) extentOf(curve.x, curve.y, x[0], x[1], logY, extent);
    return { scene, x, y: yZoom ?? padded(extent, logY) };
  }, [scene, String(axes.zoom), axes.logX, logY, yZoom]);
  const latest = useRef(shown);
  latest.current = shown;

  // Axes come with the first points: drawn before, they would be drawn twice.
  const begun = useRef(false);
  begun.current ||= width > 0 && seen && (series.size > 0 || error !== "" || !lines.length);

  const choose = (x: readonly [number, number] | null, y: readonly [number, number] | null): void => {
    setYZoom(y);
    setZoom(x);
  };

  useLayoutEffect(() => {
    if (!begun.current || !width) return undefined;
    const made = makeFrame(host.current!, {
      width, height, xAxis: axes.x, metric: panel.metrics[0]!, logX: axes.logX, logY, choose,
      shown: () => latest.current,
      hover: (place) => {
        const over = place && plot.current ? dotAt(plot.current, latest.current.scene, place.left, place.top) : null;
        if (plot.current) plot.current.over.classList.toggle("on-dot", over !== null);
        hover.set({ at: place && plot.current ? { ...place, x: plot.current.posToVal(place.left, "x"), plot: plot.current, scene: latest.current.scene, dot: over } : null });
      },
      click: ({ left, top }) => {
        const dot = plot.current && dotAt(plot.current, latest.current.scene, left, top);
        if (dot) openCheckpoint(dot.run, dot.step);
      },
    });
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [begun.current, width > 0, axes.x, axes.logX, logY, dark, panel.id]);

  useLayoutEffect(() => {
    if (plot.current && width) plot.current.setSize({ width, height });
  }, [width, height]);
  useLayoutEffect(() => {
    plot.current?.setData(dataOf(shown), true);
  }, [shown]);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== figure.current) return;
    const move = { ArrowLeft: [-0.15, 1], ArrowRight: [0.15, 1], "+": [0, 0.6], "=": [0, 0.6], "-": [0, 1.6] }[event.key];
    if (event.key === "0" || event.key === "Escape") choose(null, null);
    else if (event.key === "Enter") onAlone?.();
    else if (move) choose(moved(shown.x, move[0]!, move[1]!, 0.5, axes.logX), yZoom);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const values = runs.slice(0, 3).map((run) => ({ run, value: summaries.get(run)?.last[panel.metrics[0]!] })).filter(({ value }) => value !== undefined);
  const read = Math.min(1, ...[...series.values()].map((data) => data.read));
  const empty = !loading && !error && seen && width > 0 && scene.curves.length === 0;
  return (
    // The figure takes the focus so that arrows and + - 0 move the window without a mouse.
    <figure
      ref={figure} class={`chart ${panel.kind} ${alone ? "alone" : ""}`} tabIndex={0} data-panel={panel.id} data-points={scene.curves.reduce((sum, { x }) => sum + x.length, 0)}
      aria-label={`${panel.title}: ${values.map(({ run, value }) => `${shortName(run)} ${formatMetric(panel.metrics[0]!, value)}`).join(", ")}`}
      onKeyDown={onKeyDown}
    >
      <figcaption>
        <h3 title={panel.metrics.join(", ")}>{panel.title}</h3>
        {panel.kind === "loss" && panel.metrics.length > 1 && (
          <span class="key" aria-hidden="true">
            <i class="solid" />train <i class="dashed" />eval <i class="save" />save <i class="save best" />best
          </span>
        )}
        {panel.labels && <span class="key lines" aria-hidden="true"><i class="solid" />{panel.labels[0]} <i class="dashed" />{panel.labels[1]}</span>}
        {panel.kind === "schedule" && <span class="key" aria-hidden="true"><i class="solid" />done <i class="dotted" />to come</span>}
        {read < 1 && <span class="sketched" role="status" title="A long run is read for the first time. The curve is what is read and slices of the rest; single points, spikes among them, come as it goes on.">a sketch, {percent(read)} read</span>}
        <span class="now" aria-hidden="true">
          {values.map(({ run, value }) => <b key={run} style={{ color: colour(run) }}>{formatMetric(panel.metrics[0]!, value)}</b>)}
        </span>
        <ChartMenu
          panel={panel} plot={plot} shown={latest} logY={logY} xAxis={axes.x} alone={alone} onAlone={onAlone}
          onLog={() => { setYZoom(null); setOwnLog(!logY); }} onZoom={(scale) => choose(scale ? moved(shown.x, 0, scale, 0.5, axes.logX) : null, null)}
        />
      </figcaption>
      <div class="plot" ref={host}>
        <Tooltip hover={hover} axis={axes.x} />
        {empty && <p class="quiet centred">nothing logged in this window</p>}
        {error && <p class="centred bad" role="alert">{error}</p>}
        {loading && !series.size && <p class="quiet centred">…</p>}
      </div>
    </figure>
  );
}
