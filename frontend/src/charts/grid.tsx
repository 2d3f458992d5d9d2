/** All charts of some runs, in sections; one of them may have the whole place. */
import { useMemo } from "preact/hooks";
import { amend, useQuery } from "../state/route";
import { runsStore, useDetails } from "../state/runs";
import { settings, useSettings } from "../state/settings";
import { useStore } from "../state/store";
import { Icon } from "../ui/icons";
import { Chart } from "./chart";
import { sectionsOf, type Panel } from "./panels";

export function ChartGrid({ runs }: { runs: readonly string[] }) {
  const summaries = useStore(runsStore, (state) => state.byName);
  const wanted = useQuery("metric");
  const alone = useQuery("chart");
  const folded = useSettings((value) => value.folded);
  const details = useDetails(runs);
  // The table's newest values are there at once; the full list of what was ever logged comes with the details.
  const known = runs.flatMap((run) => [...Object.keys(summaries.get(run)?.last ?? {}), ...(details.get(run)?.metrics ?? [])]);
  const names = [...new Set(known)].toSorted().join("\n");
  const sections = useMemo(() => sectionsOf(names ? names.split("\n") : [], wanted), [names, wanted]);
  if (!runs.length) return <p class="quiet padded">No run is shown. Open an eye in the list of runs.</p>;
  if (!names) return <p class="quiet padded">Nothing has been logged yet.</p>;
  const enlarge = (panel: Panel) => () => amend({ chart: alone === panel.id ? undefined : panel.id });
  const single = sections.flatMap(({ panels }) => panels).find(({ id }) => id === alone);
  if (single) return <Chart key={single.id} panel={single} runs={runs} alone onAlone={enlarge(single)} />;
  if (!sections.length) return <p class="quiet padded">No metric has “{wanted}” in its name.</p>;
  return (
    <>
      {sections.map(({ title, panels }) => {
        const shut = folded.includes(title);
        return (
          <section key={title} class="section">
            <h2>
              <button type="button" aria-expanded={!shut} onClick={() => settings.set({ folded: shut ? folded.filter((each) => each !== title) : [...folded, title] })}>
                <Icon name={shut ? "right" : "down"} />
                {title} <span class="quiet">{panels.length}</span>
              </button>
            </h2>
            {!shut && (
              <div class="grid">
                {panels.map((panel) => <Chart key={panel.id} panel={panel} runs={runs} alone={false} onAlone={enlarge(panel)} />)}
              </div>
            )}
          </section>
        );
      })}
    </>
  );
}
