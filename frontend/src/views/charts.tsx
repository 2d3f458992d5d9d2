/** The curves of all shown runs, laid over each other. */
import { ChartGrid } from "../charts/grid";
import { ChartToolbar } from "../charts/toolbar";
import { CheckpointPanel } from "../run/checkpoint";
import { useVisible } from "../state/visible";

export function ChartsView() {
  const runs = useVisible();
  return (
    <main class="charts-view">
      <ChartToolbar />
      <div class="with-drawer">
        <div class="scroll"><ChartGrid runs={runs} /></div>
        <CheckpointPanel />
      </div>
    </main>
  );
}
