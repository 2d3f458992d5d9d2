/** What models wrote, side by side: a column for each step of each run, a row for each prompt. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { fetchSamples } from "../api/client";
import type { Samples } from "../api/contract";
import { runsStore, useColours } from "../state/runs";
import { amend, useQuery } from "../state/route";
import { useStore } from "../state/store";
import { useVisible } from "../state/visible";
import { RunName } from "../ui/name";

const LEAST_WIDTH = 240; // CSS pixels of a column: some 35 letters
const MOST_RUNS = 6; // side by side; more are not readable
const AT_FIRST = [3, 2] as const; // steps of a run when one is shown, and when two; of more just the newest

/** The samples of some runs; those of runs that move are read again when a new step has some. */
function useSamples(runs: readonly string[]): { byRun: ReadonlyMap<string, Samples>; error: string } {
  const summaries = useStore(runsStore, (state) => state.byName);
  const [state, setState] = useState<{ byRun: ReadonlyMap<string, Samples>; error: string }>({ byRun: new Map(), error: "" });
  // Samples come with saves and evaluations: the newest evaluation's value tells that there may be more.
  const moved = runs.map((run) => `${run} ${summaries.get(run)?.last["eval/loss"]} ${summaries.get(run)?.status}`).join("\n");
  useEffect(() => {
    let late = false;
    Promise.all(runs.map(async (run) => [run, await fetchSamples(run)] as const)).then(
      (pairs) => late || setState({ byRun: new Map(pairs), error: "" }),
      (error: Error) => late || setState((before) => ({ ...before, error: error.message })),
    );
    return () => {
      late = true;
    };
  }, [moved]);
  return state;
}

/** Some of the steps, the first and the newest among them; of one, the newest. */
export function spread(steps: readonly number[], count: number): number[] {
  if (steps.length <= count) return [...steps];
  if (count === 1) return steps.slice(-1);
  return [...new Set(Array.from({ length: count }, (_, index) => steps[Math.round((index * (steps.length - 1)) / (count - 1))]!))];
}

export function SampleGrid({ runs }: { runs: readonly string[] }) {
  const few = runs.slice(0, MOST_RUNS);
  const { byRun, error } = useSamples(few);
  const colour = useColours();
  const chosen = useQuery("steps");
  const all = useMemo(() => [...new Set(few.flatMap((run) => byRun.get(run)?.steps ?? []))].toSorted((a, b) => a - b), [byRun, few.join("\n")]);
  const columns = few.flatMap((run) => {
    const own = byRun.get(run)?.steps ?? [];
    const shown = chosen ? chosen.split(",").map(Number).filter((step) => own.includes(step)) : spread(own, AT_FIRST[few.length - 1] ?? 1);
    return shown.map((step) => ({ run, step }));
  });
  const steps = chosen ? chosen.split(",").map(Number) : [...new Set(columns.map(({ step }) => step))];
  const prompts = [...new Set(columns.flatMap(({ run, step }) => (byRun.get(run)?.samples[String(step)] ?? []).map(({ prompt }) => prompt)))];
  const toggle = (step: number): void => {
    const next = steps.includes(step) ? steps.filter((each) => each !== step) : [...steps, step];
    amend({ steps: next.toSorted((a, b) => a - b).join(",") });
  };
  if (error) return <p class="bad padded" role="alert">{error}</p>;
  if (!all.length) return <p class="quiet padded">{byRun.size ? "No samples yet: a recipe's `sample:` says what a model is asked as it learns." : "reading …"}</p>;
  return (
    <>
      <div class="chips" role="group" aria-label="Steps">
        <span class="quiet">steps</span>
        {all.map((step) => <button key={step} type="button" aria-pressed={steps.includes(step)} onClick={() => toggle(step)}>{step.toLocaleString("en-US")}</button>)}
        {chosen && <button type="button" class="link-button" onClick={() => amend({ steps: undefined })}>usual</button>}
      </div>
      <div class="wide">
        <table class="samples" style={{ minWidth: `${columns.length * LEAST_WIDTH}px` }}>
          <thead>
            <tr>
              {columns.map(({ run, step }) => (
                <th key={`${run} ${step}`} style={{ borderTopColor: colour(run) }}>
                  step {step.toLocaleString("en-US")}
                  {few.length > 1 && <RunName name={run} />}
                </th>
              ))}
            </tr>
          </thead>
          {prompts.map((prompt) => (
            <tbody key={prompt}>
              <tr class="prompt"><th colSpan={columns.length}>{prompt}</th></tr>
              <tr>
                {columns.map(({ run, step }) => {
                  const found = byRun.get(run)?.samples[String(step)]?.find((sample) => sample.prompt === prompt);
                  return <td key={`${run} ${step}`} class="prose">{found ? found.text : <span class="quiet">not asked</span>}</td>;
                })}
              </tr>
            </tbody>
          ))}
        </table>
      </div>
    </>
  );
}

export function SamplesView() {
  const runs = useVisible();
  return (
    <main class="samples-view scroll">
      {runs.length > MOST_RUNS && <p class="quiet padded">The first {MOST_RUNS} of {runs.length} shown runs.</p>}
      {runs.length ? <SampleGrid runs={runs} /> : <p class="quiet padded">No run is shown. Open an eye in the list of runs.</p>}
    </main>
  );
}
