/** How a run is, in a dot and a word. */
import type { RunSummary } from "../api/contract";

const SILENT = 300; // seconds without a row after which a run that should be training is called silent; guess

export type Health = "training" | "silent" | "finished" | "interrupted" | "failed" | "not finite";

export function healthOf(run: Pick<RunSummary, "status" | "updated" | "last">, now: number): Health {
  const loss = run.last["train/loss"];
  if (run.status !== "failed" && loss === null) return "not finite";
  if (run.status === "training" && now - run.updated > SILENT) return "silent";
  return run.status;
}

const MEANING: Record<Health, string> = {
  training: "a process is training it now",
  silent: "a process holds it, but nothing was logged for five minutes",
  finished: "trained to its end",
  interrupted: "stopped before its end; `polyana run` goes on with it",
  failed: "ended by an error; its log says which",
  "not finite": "the newest loss is no finite number",
};

export function Status({ run, word = true }: { run: Pick<RunSummary, "status" | "updated" | "last">; word?: boolean }) {
  const health = healthOf(run, Date.now() / 1000);
  return (
    <span class={`status ${health.replace(" ", "-")}`} title={`${health}: ${MEANING[health]}`}>
      <i />
      {word ? health : <span class="unseen">{health}</span>}
    </span>
  );
}

export function Progress({ run }: { run: Pick<RunSummary, "step" | "steps"> }) {
  const share = run.steps ? Math.min(1, run.step / run.steps) : 0;
  return (
    <span class="progress" role="progressbar" aria-label="steps done" aria-valuenow={Math.round(share * 100)} aria-valuemin={0} aria-valuemax={100}>
      <i style={{ width: `${share * 100}%` }} />
    </span>
  );
}
