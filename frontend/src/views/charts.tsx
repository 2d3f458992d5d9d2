/** The curves of all shown runs, laid over each other. */
import { ChartGrid } from "../charts/grid";
import { ChartToolbar } from "../charts/toolbar";
import { CheckpointPanel } from "../run/checkpoint";
import { useVisible } from "../state/visible";

const MOST = 40; // runs in a chart; guess

export function ChartsView() {
  const shown = useVisible();
  const runs = shown.slice(0, MOST);
  return (
    <main class="charts-view">
      <ChartToolbar />
      <div class="with-drawer">
        <div class="scroll">
          {shown.length > MOST && <p class="quiet padded">The newest {MOST} of {shown.length} shown runs are drawn; more lines could not be told apart.</p>}
          <ChartGrid runs={runs} />
        </div>
        <CheckpointPanel />
      </div>
    </main>
  );
}
