/** Which charts there are for a set of metrics, in which sections. */

export interface Panel {
  /** Unique, and in the address when a chart is shown alone. */
  id: string;
  title: string;
  metrics: string[];
  /** Loss and learning rate are drawn with more than their lines. */
  kind: "loss" | "schedule" | "plain";
}

export interface Section {
  title: string;
  panels: Panel[];
}

const CORE: readonly (readonly [string, string])[] = [
  ["train/grad_norm", "Gradient norm"],
  ["train/tokens_per_second", "Tokens per second"],
  ["train/mfu", "Model FLOPs utilisation"],
];

/** Counters that other charts have as their x axis. */
const AXES = new Set(["train/tokens", "train/epoch"]);

/** The core in a fixed order, then every other metric under its prefix. `wanted` is a part of a name. */
export function sectionsOf(names: readonly string[], wanted: string): Section[] {
  const metrics = new Set(names);
  for (const axis of AXES) metrics.delete(axis);
  const take = (...some: string[]): string[] => some.filter((name) => metrics.delete(name));
  const core: Panel[] = [];
  const add = (id: string, title: string, kind: Panel["kind"], some: string[]): void => {
    if (some.length) core.push({ id, title, kind, metrics: some });
  };
  add("loss", "Loss", "loss", take("train/loss", "eval/loss"));
  add("lr", "Learning rate", "schedule", take("train/lr"));
  for (const [name, title] of CORE) add(name, title, "plain", take(name));
  add("memory", "Memory", "plain", take(...[...metrics].filter((name) => /(^|[/_])memory([/_]|$)/.test(name)).toSorted()));
  const groups = new Map<string, Panel[]>();
  for (const name of [...metrics].toSorted()) {
    const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "other";
    const panels = groups.get(prefix) ?? [];
    panels.push({ id: name, title: name, metrics: [name], kind: "plain" });
    groups.set(prefix, panels);
  }
  const sections: Section[] = [{ title: "training", panels: core }, ...[...groups].map(([title, panels]) => ({ title, panels }))];
  const needle = wanted.toLowerCase();
  const matches = (panel: Panel): boolean => `${panel.title} ${panel.metrics.join(" ")}`.toLowerCase().includes(needle);
  return sections.map(({ title, panels }) => ({ title, panels: panels.filter(matches) })).filter(({ panels }) => panels.length);
}
