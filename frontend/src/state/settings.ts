/** What this browser remembers: theme, colours, which runs are shown. Nothing of it is needed, and no storage is no error. */
import { createStore, useStore } from "./store";

export type Theme = "system" | "light" | "dark";

export interface Settings {
  theme: Theme;
  /** Run -> place in the palette, so that a run keeps its colour when others come and go. */
  colours: Record<string, number>;
  /** Run -> what its eye was set to; runs that are not in here follow the rule of `visibleRuns`. */
  eyes: Record<string, boolean>;
  columns: string[] | null;
  folded: string[];
  railHidden: boolean;
}

const KEY = "polyana.settings";
const NARROW = 760; // CSS pixels, as in the style sheets: below it the list of runs would hide the charts
const DEFAULTS: Settings = { theme: "system", colours: {}, eyes: {}, columns: null, folded: [], railHidden: innerWidth <= NARROW };

function load(): Settings {
  try {
    return { ...DEFAULTS, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Settings>) };
  } catch {
    return DEFAULTS;
  }
}

export const settings = createStore<Settings>(load());

settings.subscribe(() => {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings.get()));
  } catch {
    // private windows may have no storage; the settings then last as long as the page
  }
});

export function useSettings<S>(select: (settings: Settings) => S): S {
  return useStore(settings, select);
}

const dark = matchMedia("(prefers-color-scheme: dark)");

export function isDark(theme: Theme): boolean {
  return theme === "dark" || (theme === "system" && dark.matches);
}

export const scheme = createStore({ dark: isDark(settings.get().theme) });

function apply(): void {
  const { theme } = settings.get();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  if (scheme.get().dark !== isDark(theme)) scheme.set({ dark: isDark(theme) });
}

settings.subscribe(apply);
dark.addEventListener("change", apply);

export function turnTheme(): void {
  settings.set({ theme: isDark(settings.get().theme) ? "light" : "dark" });
}
