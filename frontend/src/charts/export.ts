/** A chart as a file: PNG as it stands, SVG and CSV from its curves. */
import type uPlot from "uplot";
import { placing, trace, type Scene } from "./scene";

export function save(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export interface Look {
  title: string;
  panel: string;
  text: string;
  faint: string;
  grid: string;
}

const HEAD = 26; // CSS pixels above the plot for the title
const ROW = 16; // and below it for each curve of the legend

function legend(scene: Scene): { label: string; colour: string; dash: readonly number[] }[] {
  const seen = new Map<string, { label: string; colour: string; dash: readonly number[] }>();
  for (const { role, label, colour, dash } of scene.curves) if (role === "main") seen.set(`${label} ${colour}`, { label, colour, dash });
  return [...seen.values()];
}

export function toPng(plot: uPlot, scene: Scene, look: Look): Promise<Blob> {
  const ratio = devicePixelRatio;
  const source = plot.ctx.canvas;
  const rows = legend(scene);
  const canvas = document.createElement("canvas");
  canvas.width = source.width;
  canvas.height = source.height + (HEAD + rows.length * ROW + 8) * ratio;
  const ctx = canvas.getContext("2d")!;
  ctx.fillStyle = look.panel;
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.drawImage(source, 0, HEAD * ratio);
  ctx.scale(ratio, ratio);
  ctx.fillStyle = look.text;
  ctx.font = "600 13px system-ui, sans-serif";
  ctx.fillText(look.title, 10, 18);
  ctx.font = "12px system-ui, sans-serif";
  rows.forEach(({ label, colour, dash }, index) => {
    const y = HEAD + source.height / ratio + index * ROW + 8;
    ctx.strokeStyle = colour;
    ctx.lineWidth = 2;
    ctx.setLineDash([...dash]);
    ctx.beginPath();
    ctx.moveTo(12, y);
    ctx.lineTo(36, y);
    ctx.stroke();
    ctx.fillText(label, 44, y + 4);
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser made no PNG"))), "image/png");
  });
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Ticks come from uPlot, so that the file has the labels of the screen. */
export function toSvg(plot: uPlot, scene: Scene, look: Look): string {
  const ratio = devicePixelRatio;
  const box = { left: plot.bbox.left / ratio, top: plot.bbox.top / ratio + HEAD, width: plot.bbox.width / ratio, height: plot.bbox.height / ratio };
  const [across, down] = [placing(plot, "x", false), placing(plot, "y", false)];
  const x = (value: number): number => box.left + across(value);
  const y = (value: number): number => box.top + down(value);
  const rows = legend(scene);
  const [width, height] = [plot.width, plot.height + HEAD + rows.length * ROW + 8];
  const parts: string[] = [];
  const text = (px: number, py: number, content: string, more: string): void => {
    parts.push(`<text x="${px.toFixed(1)}" y="${py.toFixed(1)}" ${more}>${escape(content)}</text>`);
  };
  for (const [scale, index] of [["x", 0], ["y", 1]] as const) {
    const axis = plot.axes[index] as uPlot.Axis & { _splits?: number[]; _values?: (string | null)[] };
    axis._splits?.forEach((split, at) => {
      const label = axis._values?.[at];
      if (label === null || label === undefined || label === "") return;
      const [px, py] = [x(split), y(split)];
      if (scale === "x") {
        parts.push(`<path d="M${px.toFixed(1)} ${box.top}v${box.height}" stroke="${look.grid}"/>`);
        text(px, box.top + box.height + 16, label, `fill="${look.faint}" text-anchor="middle"`);
      } else {
        parts.push(`<path d="M${box.left} ${py.toFixed(1)}h${box.width}" stroke="${look.grid}"/>`);
        text(box.left - 6, py + 4, label, `fill="${look.faint}" text-anchor="end"`);
      }
    });
  }
  parts.push('<g clip-path="url(#plot)" fill="none" stroke-linejoin="round">');
  for (const { x: at, colour } of scene.marks) parts.push(`<path d="M${x(at).toFixed(1)} ${box.top}v${box.height}" stroke="${colour}" stroke-dasharray="2 3"/>`);
  for (const curve of scene.curves) {
    let path = "";
    trace(curve, x, y, (px, py) => (path += `M${px.toFixed(1)} ${py.toFixed(1)}`), (px, py) => (path += `L${px.toFixed(1)} ${py.toFixed(1)}`));
    const dash = curve.dash.length ? ` stroke-dasharray="${curve.dash.join(" ")}"` : "";
    if (path) parts.push(`<path d="${path}" stroke="${curve.colour}" stroke-width="${curve.width}" stroke-opacity="${curve.alpha}"${dash}/>`);
  }
  for (const dot of scene.dots) {
    if (!Number.isFinite(y(dot.y))) continue;
    parts.push(`<circle cx="${x(dot.x).toFixed(1)}" cy="${y(dot.y).toFixed(1)}" r="4" fill="${dot.best ? dot.colour : look.panel}" stroke="${dot.colour}" stroke-width="1.6"/>`);
  }
  parts.push("</g>");
  text(10, 18, look.title, `fill="${look.text}" font-weight="600" font-size="13"`);
  rows.forEach(({ label, colour, dash }, index) => {
    const at = HEAD + plot.height + index * ROW + 8;
    parts.push(`<path d="M12 ${at}h24" stroke="${colour}" stroke-width="2" stroke-dasharray="${dash.join(" ")}"/>`);
    text(44, at + 4, label, `fill="${look.text}"`);
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    'font-family="system-ui, sans-serif" font-size="11.5">' +
    `<clipPath id="plot"><rect x="${box.left}" y="${box.top}" width="${box.width}" height="${box.height}"/></clipPath>` +
    `<rect width="100%" height="100%" fill="${look.panel}"/>${parts.join("")}</svg>`
  );
}

/** One row a point: run, metric, which curve, x, y. Cells that begin like a formula are made harmless to spreadsheets. */
export function toCsv(scene: Scene, xName: string): string {
  const cell = (text: string): string => {
    const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  const rows = [`run,metric,curve,${xName},value`];
  for (const { run, metric, role, x, y } of scene.curves) {
    for (let index = 0; index < x.length; index++) {
      if (!Number.isNaN(x[index]!)) rows.push(`${cell(run)},${cell(metric)},${role === "main" ? "curve" : role},${x[index]},${Number.isNaN(y[index]!) ? "" : y[index]}`);
    }
  }
  return `${rows.join("\n")}\n`;
}
