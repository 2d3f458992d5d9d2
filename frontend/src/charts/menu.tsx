/** A chart's own menu: axis, size, files. */
import type uPlot from "uplot";
import type { XAxis } from "../api/contract";
import { Menu } from "../ui/menu";
import { save, toCsv, toPng, toSvg, type Look } from "./export";
import { readColours, type Shown } from "./frame";
import type { Panel } from "./panels";

interface ChartMenuProps {
  panel: Panel;
  plot: { current: uPlot | null };
  shown: { current: Shown };
  logY: boolean;
  xAxis: XAxis;
  alone: boolean;
  onAlone: (() => void) | undefined;
  onLog: () => void;
  /** Scale the window, 0: show all. */
  onZoom: (scale: number) => void;
}

export function ChartMenu({ panel, plot, shown, logY, xAxis, alone, onAlone, onLog, onZoom }: ChartMenuProps) {
  const file = panel.title.toLowerCase().replace(/[^\w]+/g, "-");
  const look = (): Look => {
    const { panel: background, text, faint, grid } = readColours();
    return { title: panel.title, panel: background, text, faint, grid };
  };
  const png = async (): Promise<void> => {
    if (plot.current) save(`${file}.png`, await toPng(plot.current, shown.current.scene, look()));
  };
  const svg = (): void => {
    if (plot.current) save(`${file}.svg`, new Blob([toSvg(plot.current, shown.current.scene, look())], { type: "image/svg+xml" }));
  };
  return (
    <Menu
      label={`Menu of ${panel.title}`}
      items={[
        ...(onAlone ? [{ text: alone ? "Back to all charts" : "Enlarge", key: "Enter", run: onAlone }] : []),
        { text: logY ? "Linear y axis" : "Logarithmic y axis", run: onLog },
        { text: "Zoom in", key: "+", run: () => onZoom(0.5) },
        { text: "Zoom out", key: "−", run: () => onZoom(2) },
        { text: "Show all", key: "0", run: () => onZoom(0) },
        "line",
        { text: "Save as PNG", run: () => void png() },
        { text: "Save as SVG", run: svg },
        { text: "Save as CSV", run: () => save(`${file}.csv`, new Blob([toCsv(shown.current.scene, xAxis)], { type: "text/csv" })) },
      ]}
    />
  );
}
