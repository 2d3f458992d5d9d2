/** What the server says, as docs/architecture.md and polyana/dashboard/ have it. Steps count from 1; times are seconds since 1970. */

export type Status = "training" | "finished" | "failed" | "interrupted";
export type Value = string | number | boolean | null;

export interface RunSummary {
  name: string;
  recipe: string;
  stage: string;
  status: Status;
  started: number;
  updated: number;
  step: number;
  /** How many there will be; null while nobody knows. */
  steps: number | null;
  tokens: number | null;
  attempts: number;
  /** The newest value of each metric; null: not finite. */
  last: Record<string, number | null>;
  /** The best save: its loss, and the value of what it is the best `by`, of which the lowest or the highest is wanted. */
  best: { step: number; "eval/loss": number | null; by: string; lowest: boolean; value: number | null } | null;
  /** When the newest save was made, or a name given to one; null: none is there. */
  saved: number | null;
  config: Record<string, Value>;
  tags: string[];
  notes: string;
  group: string;
  /** What a failed run died of. */
  why?: string;
  /** The worst of what its curves suggest; null: nothing, or nobody has looked yet. */
  advice?: Pick<Advice, "kind" | "severity"> | null;
}

export interface Score {
  value: number;
  low?: number;
  high?: number;
}

export interface Checkpoint {
  step: number;
  commit: string;
  epoch: number;
  tokens: number;
  message: string;
  metrics: Record<string, number | null>;
  /** What it scored in each suite that it was evaluated with: suite, metric, value and the ends of its interval. */
  evaluations: Record<string, Record<string, Score>>;
  bytes: number;
  refs: string[];
  load: Record<string, string>;
}

/** A page that a stage or a run has written. `of`: recipe and stage, or the run; `made`: seconds since 1970. */
export interface Report {
  title: string;
  url: string;
  of: string;
  made: number;
}

export interface Advice {
  kind: string;
  title: string;
  text: string;
  severity: "info" | "warning";
  evidence: { metric?: string; from?: number; to?: number } & Record<string, unknown>;
}

export interface RunEvent {
  step: number;
  time: number;
  event: string;
  [about: string]: unknown;
}

export interface RunDetail extends Omit<RunSummary, "advice"> {
  /** The share of the run that the server has read; below 1, what is said here is not all. */
  read: number;
  metrics: string[];
  events: RunEvent[];
  resumed: { step: number; attempt: number; time: number }[];
  checkpoints: Checkpoint[];
  schedule: { steps: number[]; lr: number[] } | null;
  histograms: string[];
  /** Names, each with one record a step. */
  images: string[];
  tables: string[];
  texts: string[];
  /** What could not be read of it. */
  troubles?: string[];
  pages: { title: string; url: string }[];
  advice: Advice[];
}

export interface TextRecord {
  step: number;
  value: string;
}

export interface TableRecord {
  step: number;
  columns: string[];
  rows: Value[][];
}

export interface ImageRecord {
  step: number;
  file: string;
}

export type XAxis = "step" | "tokens" | "epoch" | "time" | "relative";

/** One metric of one run; the rest overrides what a query says for all. */
export interface Line {
  run: string;
  metric: string;
  from?: number | null;
  to?: number | null;
  width?: number;
}

export interface SeriesQuery {
  x: XAxis;
  from: number | null;
  to: number | null;
  /** Buckets, one a CSS pixel of the plot. */
  width: number;
  smoothing: number;
}

/** Points in x order. A NaN in `rawY` is a value that was not finite; in `ghostX` it parts two attempts. */
export interface SeriesData {
  run: string;
  metric: string;
  /** Points in the asked range before they were thinned out. */
  total: number;
  /** Where on x an attempt resumed. */
  marks: number[];
  /** The share of the run that the server has read. Below 1 the curve is a sketch, to be asked for again. */
  read: number;
  rawX: Float64Array;
  rawY: Float64Array;
  smoothX: Float64Array;
  smoothY: Float64Array;
  ghostX: Float64Array;
  ghostY: Float64Array;
}

export interface Histograms {
  steps: number[];
  low: number[];
  high: number[];
  counts: number[][];
  /** The share of exact zeros. */
  zeros: number[];
  norm: (number | null)[];
}

export interface Sample {
  prompt: string;
  text: string;
  form?: string;
}

export interface Samples {
  steps: number[];
  samples: Record<string, Sample[]>;
}

export interface Difference {
  key: string;
  a: Value;
  b: Value;
}

export interface GenerateRequest {
  revision: string;
  prompt: string;
  max_tokens: number;
  temperature: number;
  top_p: number;
  seed: number;
}

export interface Notes {
  tags: string[];
  notes: string;
  group: string;
}

export type RunChange = Partial<RunSummary> & { name: string };
