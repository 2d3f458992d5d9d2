/** Keys that hold everywhere; `?` lists them. */
import { axes, setAxis, setSmoothing, setZoom, turnAxis, turnGhosts } from "./state/axes";
import { SMOOTHINGS, X_AXES } from "./state/axis-query";
import { closeCheckpoint } from "./run/checkpoint-state";
import { formatHash } from "./state/address";
import { route } from "./state/route";
import { settings, turnTheme } from "./state/settings";

export const HELP: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ["Everywhere", [
    ["?", "this list"], ["g r", "runs"], ["g c", "charts"], ["g s", "samples"], ["g o", "reports"], ["/", "filter"], ["t", "dark or light"], ["b", "list of runs beside the charts"], ["Esc", "close what is open"],
  ]],
  ["Charts", [
    ["x", "next x axis"], ["s  S", "smooth more, less"], ["l  L", "logarithmic y, x"], ["h", "ghosts of earlier attempts"], ["0", "show all"],
  ]],
  ["A chart that has the focus", [
    ["← →", "pan"], ["+  −", "zoom"], ["Enter", "enlarge"],
    ["drag", "zoom into what is drawn"], ["Shift drag", "pan"], ["Ctrl wheel", "zoom"], ["two fingers", "zoom and pan"], ["Shift wheel", "pan"], ["double click", "show all"],
  ]],
  ["Table of runs", [["j k  ↑ ↓", "go through the runs"], ["e", "eye: show or hide in charts"], ["n", "tags and notes"], ["Enter", "open the run"]]],
];

function smooth(by: number): void {
  const at = SMOOTHINGS.findLastIndex((value) => value <= axes().smoothing);
  setSmoothing(SMOOTHINGS[Math.min(SMOOTHINGS.length - 1, Math.max(0, at + by))]!);
}

const ACTIONS: Readonly<Record<string, () => void>> = {
  t: turnTheme,
  b: () => settings.set({ railHidden: !settings.get().railHidden }),
  x: () => setAxis(X_AXES[(X_AXES.findIndex(([axis]) => axis === axes().x) + 1) % X_AXES.length]![0]),
  s: () => smooth(1),
  S: () => smooth(-1),
  l: () => turnAxis("logy"),
  L: () => turnAxis("logx"),
  h: turnGhosts,
  "0": () => setZoom(null),
  "/": () => document.querySelector<HTMLInputElement>("input.filter")?.focus(),
  Escape: closeCheckpoint,
};

const VIEWS: Readonly<Record<string, string>> = { r: "runs", c: "charts", s: "samples", o: "reports" };
const PAUSE = 1200; // ms between `g` and the letter after it

/** The way to a view, with what is set for charts and the filter. */
export function addressOf(view: string): string {
  const { query } = route.get();
  if (view === "reports") return formatHash([view]);
  const kept = ["filter", "runs", ...(view === "charts" ? ["x", "smooth", "logx", "logy", "ghosts"] : [])];
  return formatHash([view], Object.fromEntries(kept.map((key) => [key, query[key]])));
}

/** Listen for as long as the page is open; `help` opens the list. */
export function startKeyboard(help: () => void): void {
  let pressed = 0;
  addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.closest("input:not([type=range]), textarea, select")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const view = VIEWS[event.key];
    if (Date.now() - pressed < PAUSE && view) {
      pressed = 0;
      location.hash = addressOf(view);
    } else if (event.key === "g") pressed = Date.now();
    else if (event.key === "?") help();
    else if (ACTIONS[event.key]) ACTIONS[event.key]!();
    else return;
    event.preventDefault();
  });
}

