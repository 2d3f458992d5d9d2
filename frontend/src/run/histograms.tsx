/** How gradients, weights and updates are spread, over the whole training. */
import type { RunDetail } from "../api/contract";
import { Histogram } from "../charts/histogram";
import { amend, useQuery } from "../state/route";
import { useColours } from "../state/runs";

const REFRESH = 50; // steps of training after which they are read again; guess

export function HistogramGrid({ detail, step }: { detail: RunDetail; step: number }) {
  const ridges = useQuery("shape") === "ridges";
  const of = useQuery("of");
  const colour = useColours()(detail.name);
  if (!detail.histograms.length) return <p class="quiet padded">No histograms were logged: a recipe asks for them.</p>;
  const kinds = [...new Set(detail.histograms.map((name) => name.split("/")[0]!))];
  const names = detail.histograms.filter((name) => !of || name.startsWith(`${of}/`));
  return (
    <>
      <div class="toolbar">
        <div class="segments" role="group" aria-label="Shape">
          <button type="button" aria-pressed={!ridges} onClick={() => amend({ shape: undefined })}>heatmap</button>
          <button type="button" aria-pressed={ridges} onClick={() => amend({ shape: "ridges" })}>ridges</button>
        </div>
        <div class="segments" role="group" aria-label="Which">
          <button type="button" aria-pressed={!of} onClick={() => amend({ of: undefined })}>all</button>
          {kinds.map((kind) => <button key={kind} type="button" aria-pressed={of === kind} onClick={() => amend({ of: kind })}>{kind}</button>)}
        </div>
      </div>
      <div class="grid">
        {names.map((name) => <Histogram key={name} run={detail.name} name={name} ridges={ridges} colour={colour} stamp={`${Math.floor(step / REFRESH)} ${detail.status}`} />)}
      </div>
    </>
  );
}
