/** Histograms over time on a canvas: a heatmap (time to the right) or ridges (time downwards). */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { fetchHistograms } from "../api/client";
import type { Histograms } from "../api/contract";
import { scheme } from "../state/settings";
import { useStore } from "../state/store";
import { number, percent } from "../text/format";
import { useAnswer, Waiting } from "../ui/answer";
import { Icon } from "../ui/icons";
import { readColours } from "./frame";
import { onCommonBins, worriesOf } from "./histogram-model";

const BINS = 96;
const HEIGHT = 220;
const [LEFT, BOTTOM, TOP] = [58, 22, 6]; // CSS pixels for labels
const RIDGES = 28; // at most: more lie on each other

export function Histogram({ run, name, ridges, colour, stamp }: { run: string; name: string; ridges: boolean; colour: string; stamp: string }) {
  const answer = useAnswer(() => fetchHistograms(run, name), `${run}\n${name}\n${stamp}`);
  const worries = useMemo(() => (answer.value ? worriesOf(name, answer.value) : []), [answer.value]);
  return (
    <figure class="chart" aria-label={`Histograms of ${name} over time`} data-histogram={name}>
      <figcaption><h3>{name}</h3></figcaption>
      {worries.map(({ kind, text }) => <p key={kind} class="worry"><Icon name="warning" /><b>{kind}</b> {text}</p>)}
      {answer.value ? answer.value.steps.length ? <Canvas data={answer.value} ridges={ridges} colour={colour} /> : <p class="quiet padded">none logged yet</p> : <Waiting answer={answer} />}
    </figure>
  );
}

function Canvas({ data, ridges, colour }: { data: Histograms; ridges: boolean; colour: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [over, setOver] = useState<{ left: number; index: number } | null>(null);
  const dark = useStore(scheme, (state) => state.dark);
  const common = useMemo(() => onCommonBins(data, BINS), [data]);
  useEffect(() => {
    const observer = new ResizeObserver((entries) => setWidth(entries[0]!.contentRect.width));
    observer.observe(canvas.current!.parentElement!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!width) return;
    const element = canvas.current!;
    const ratio = devicePixelRatio;
    element.width = Math.round(width * ratio);
    element.height = HEIGHT * ratio;
    const ctx = element.getContext("2d")!;
    ctx.scale(ratio, ratio);
    const colours = readColours();
    ctx.font = "11px system-ui, sans-serif";
    ctx.fillStyle = colours.faint;
    const [plotWidth, plotHeight] = [width - LEFT - 8, HEIGHT - TOP - BOTTOM];
    if (ridges) drawRidges(ctx, data, common, colour, colours.panel, plotWidth, plotHeight);
    else drawHeat(ctx, data, common, colour, plotWidth, plotHeight);
    ctx.fillStyle = colours.faint;
    const steps = data.steps;
    if (ridges) {
      for (const share of [0, 0.5, 1]) {
        ctx.textAlign = alignment(share);
        ctx.fillText(number(common.low + share * (common.high - common.low)), LEFT + share * plotWidth, HEIGHT - 6);
      }
      ctx.textAlign = "right";
      ctx.fillText(steps[0]!.toLocaleString("en-US"), LEFT - 6, TOP + 22);
      ctx.fillText(steps.at(-1)!.toLocaleString("en-US"), LEFT - 6, TOP + plotHeight);
    } else {
      ctx.textAlign = "right";
      for (const share of [0, 0.5, 1]) ctx.fillText(tick(common.low + share * (common.high - common.low)), LEFT - 6, TOP + (1 - share) * (plotHeight - 8) + 9);
      for (const share of [0, 0.5, 1]) {
        ctx.textAlign = alignment(share);
        ctx.fillText(steps[Math.round(share * (steps.length - 1))]!.toLocaleString("en-US"), LEFT + share * plotWidth, HEIGHT - 6);
      }
    }
  }, [data, common, ridges, width, dark, colour]);
  const onMove = (event: MouseEvent): void => {
    const box = canvas.current!.getBoundingClientRect();
    const share = ridges ? (event.clientY - box.top - TOP) / (HEIGHT - TOP - BOTTOM) : (event.clientX - box.left - LEFT) / (width - LEFT - 8);
    const index = Math.floor(share * data.steps.length);
    setOver(index >= 0 && index < data.steps.length ? { left: event.clientX - box.left, index } : null);
  };
  return (
    <div class="plot">
      <canvas ref={canvas} style={{ width: "100%", height: `${HEIGHT}px` }} onMouseMove={onMove} onMouseLeave={() => setOver(null)} />
      {over && (
        <div class="tooltip" style={over.left > width / 2 ? { right: `${width - over.left + 12}px` } : { left: `${over.left + 12}px` }}>
          <div class="at">step {data.steps[over.index]!.toLocaleString("en-US")}</div>
          <div class="row"><span>range</span><b>{number(data.low[over.index])} to {number(data.high[over.index])}</b></div>
          <div class="row"><span>norm</span><b>{number(data.norm[over.index])}</b></div>
          <div class="row"><span>exact zeros</span><b>{percent(data.zeros[over.index]!)}</b></div>
        </div>
      )}
    </div>
  );
}

/** Two digits: more would not fit beside the plot. */
function tick(value: number): string {
  return number(Number(value.toPrecision(2)));
}

/** Labels at the ends stay within the canvas. */
function alignment(share: number): CanvasTextAlign {
  if (share === 0) return "left";
  return share === 1 ? "right" : "center";
}

type Common = ReturnType<typeof onCommonBins>;

function drawHeat(ctx: CanvasRenderingContext2D, data: Histograms, { density }: Common, colour: string, width: number, height: number): void {
  // One pixel a cell, then scaled: rectangles of fractions of a pixel would leave seams.
  const cells = new ImageData(data.steps.length, BINS);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)) as [number, number, number];
  density.forEach((row, at) => {
    row.forEach((value, bin) => {
      const alpha = 255 * value ** 0.6; // tails would not be seen on a straight scale
      cells.data.set([red, green, blue, alpha], 4 * ((BINS - 1 - bin) * data.steps.length + at));
    });
  });
  const small = new OffscreenCanvas(cells.width, cells.height);
  small.getContext("2d")!.putImageData(cells, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(small, LEFT, TOP, width, height);
}

function drawRidges(ctx: CanvasRenderingContext2D, data: Histograms, { density }: Common, colour: string, panel: string, width: number, height: number): void {
  const count = Math.min(RIDGES, data.steps.length);
  const tall = Math.min(46, (height / count) * 3.2);
  for (let ridge = 0; ridge < count; ridge++) {
    const row = density[count > 1 ? Math.round((ridge * (density.length - 1)) / (count - 1)) : 0]!;
    const base = TOP + tall + (count > 1 ? (ridge * (height - tall)) / (count - 1) : height - tall);
    ctx.beginPath();
    ctx.moveTo(LEFT, base);
    row.forEach((value, bin) => ctx.lineTo(LEFT + ((bin + 0.5) * width) / BINS, base - value * tall));
    ctx.lineTo(LEFT + width, base);
    ctx.fillStyle = panel;
    ctx.fill();
    ctx.globalAlpha = 0.3;
    ctx.fillStyle = colour;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.1;
    ctx.stroke();
  }
}
