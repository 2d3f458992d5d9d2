/** Which charts there are for a set of metrics, in which sections. */

export interface Panel {
  /** Unique, and in the address when a chart is shown alone. */
  id: string;
  title: string;
  metrics: string[];
  /** Loss and learning rate are drawn with more than their lines. */
  kind: "loss" | "schedule" | "plain";
  /** What its lines are called, where their names would not do: the first is whole, the second dashed. */
  labels?: readonly string[];
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

/** What tells whether preferences are learned, and whether the reward is gamed: the most telling first. */
const ALIGNMENT: readonly { title: string; metrics: readonly string[]; labels?: readonly string[] }[] = [
  { title: "Gold and proxy", metrics: ["gold/reward", "gold/proxy"], labels: ["gold", "proxy"] },
  { title: "KL from the base", metrics: ["gold/kl"] },
  { title: "Pairs ranked rightly", metrics: ["rewards/accuracies", "eval/rewards/accuracies"], labels: ["train", "held out"] },
  { title: "Margin of rewards", metrics: ["rewards/margins", "eval/rewards/margins"], labels: ["train", "held out"] },
  { title: "Rewards, held out", metrics: ["eval/rewards/chosen", "eval/rewards/rejected"], labels: ["chosen", "rejected"] },
  { title: "Gain at equal length", metrics: ["gold/reward_gain_at_length", "gold/proxy_gain_at_length"], labels: ["gold", "proxy"] },
  { title: "Tokens of an answer", metrics: ["gold/length"] },
  { title: "Better than the base's", metrics: ["gold/wins", "gold/ties"], labels: ["better", "tie"] },
  { title: "Entropy of a token", metrics: ["gold/entropy"] },
  { title: "Repetition", metrics: ["gold/repetition"] },
  { title: "Refusals", metrics: ["gold/refusals"] },
];

/** Counters that other charts have as their x axis. */
const AXES = new Set(["train/tokens", "train/epoch"]);

/** The core and what belongs to alignment in a fixed order, then every other metric under its prefix. `wanted` is a part of a name. */
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
  const aligned: Panel[] = ALIGNMENT.flatMap(({ title, metrics: some, labels }) => {
    const there = take(...some);
    const called = labels?.filter((_, index) => there.includes(some[index]!));
    return there.length ? [{ id: some[0]!, title, kind: "plain" as const, metrics: there, ...(called && there.length > 1 ? { labels: called } : {}) }] : [];
  });
  const groups = new Map<string, Panel[]>();
  for (const name of [...metrics].toSorted()) {
    const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "other";
    const panels = groups.get(prefix) ?? [];
    panels.push({ id: name, title: name, metrics: [name], kind: "plain" });
    groups.set(prefix, panels);
  }
  const sections: Section[] = [{ title: "training", panels: core }, { title: "alignment", panels: aligned }, ...[...groups].map(([title, panels]) => ({ title, panels }))];
  const needle = wanted.toLowerCase();
  const matches = (panel: Panel): boolean => `${panel.title} ${panel.metrics.join(" ")}`.toLowerCase().includes(needle);
  return sections.map(({ title, panels }) => ({ title, panels: panels.filter(matches) })).filter(({ panels }) => panels.length);
}
