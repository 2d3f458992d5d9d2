/** The runs beside the charts: which are shown, in which colour, how each is. */
import { useMemo } from "preact/hooks";
import { useColours } from "../state/runs";
import { settings } from "../state/settings";
import { show, showJust, useVisible } from "../state/visible";
import { metric as formatMetric } from "../text/format";
import { Eye } from "../runs/row";
import { Icon } from "../ui/icons";
import { RunName } from "../ui/name";
import { Progress, Status } from "../ui/status";
import { Virtual } from "../ui/virtual";
import { FilterBox, useFiltered } from "./runs";

const ROW = 46; // CSS pixels, as in rail.css

export function Rail() {
  const runs = useFiltered();
  const shown = useVisible();
  const open = useMemo(() => new Set(shown), [shown.join("\n")]);
  const colour = useColours();
  return (
    <nav class="rail" aria-label="Runs in the charts">
      <div class="rail-head">
        <FilterBox id="rail-filter" />
        <button type="button" class="quiet-button" aria-label="Hide the list of runs" title="Hide the list of runs (b)" onClick={() => settings.set({ railHidden: true })}><Icon name="rail" /></button>
      </div>
      <div class="rail-head">
        <span class="quiet">{open.size} shown</span>
        <button type="button" class="link-button" onClick={() => show(runs.map((run) => run.name), true)}>all</button>
        <button type="button" class="link-button" onClick={() => show(runs.map((run) => run.name), false)}>none</button>
        <button type="button" class="link-button" onClick={() => showJust(runs.filter((run) => run.status === "training").map((run) => run.name))}>training</button>
      </div>
      <Virtual
        role="list" label="Runs" count={runs.length} rowHeight={ROW}
        row={(index) => {
          const run = runs[index]!;
          const loss = run.last["train/loss"];
          return (
            <div class={`rail-row ${open.has(run.name) ? "shown" : ""}`} role="listitem" key={run.name} data-run={run.name}>
              <Eye name={run.name} open={open.has(run.name)} colour={colour(run.name)} />
              <i class="swatch" style={{ background: colour(run.name) }} />
              <div>
                <RunName name={run.name} />
                <span class="line"><Status run={run} word={false} /><Progress run={run} /><em>{loss === undefined ? "" : formatMetric("train/loss", loss)}</em></span>
              </div>
            </div>
          );
        }}
      />
    </nav>
  );
}

