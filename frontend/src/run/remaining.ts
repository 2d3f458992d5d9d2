/** How long a training still takes. */
import type { RunSummary } from "../api/contract";

/** Seconds to the end at the speed of the newest step; null while nobody can know. */
export function secondsLeft(run: Pick<RunSummary, "status" | "step" | "steps" | "tokens" | "last">): number | null {
  const speed = run.last["train/tokens_per_second"];
  if (run.status !== "training" || !run.steps || !run.step || !run.tokens || !speed) return null;
  return ((run.steps - run.step) * (run.tokens / run.step)) / speed;
}
