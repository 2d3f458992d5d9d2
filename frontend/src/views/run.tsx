/** One run: its state above, everything known of it below. */
import { ChartGrid } from "../charts/grid";
import { ChartToolbar } from "../charts/toolbar";
import { AdviceCards } from "../run/advice";
import { CheckpointPanel } from "../run/checkpoint";
import { RunHeader } from "../run/header";
import { HistogramGrid } from "../run/histograms";
import { Media } from "../run/media";
import { Saves } from "../run/saves";
import { Environment, Events, Log, Pages, Recipe } from "../run/texts";
import { formatHash } from "../state/address";
import { useRoute } from "../state/route";
import { runsStore, useDetail } from "../state/runs";
import { useStore } from "../state/store";
import { SampleGrid } from "./samples";

const TABS = ["charts", "saves", "histograms", "samples", "media", "recipe", "log", "events", "environment", "reports"] as const;

export function RunView({ name }: { name: string }) {
  const { path, query } = useRoute();
  const tab = TABS.find((each) => each === path[2]) ?? "charts";
  const run = useStore(runsStore, (state) => state.byName.get(name));
  const loaded = useStore(runsStore, (state) => state.loaded);
  const gone = useStore(runsStore, (state) => state.gone.has(name));
  const detail = useDetail(run ? name : "");
  if (!run) {
    if (gone) return <main class="padded"><h1>{name}</h1><p class="bad" role="alert">This run was deleted while you looked at it.</p></main>;
    return <main class="padded"><p class={loaded ? "bad" : "quiet"}>{loaded ? `There is no run “${name}” here.` : "reading …"}</p></main>;
  }
  const kept = Object.fromEntries(["x", "smooth", "logx", "logy", "ghosts"].map((key) => [key, query[key]]));
  const counts: Partial<Record<(typeof TABS)[number], number>> = detail ? { saves: detail.checkpoints.length, histograms: detail.histograms.length, events: detail.events.length, media: detail.texts.length + detail.tables.length + detail.images.length, reports: detail.pages.length } : {};
  return (
    <main class="run-view">
      <RunHeader run={run} />
      <nav class="tabs" aria-label="Parts of the run">
        {TABS.map((each) => (
          <a key={each} href={formatHash(["run", name, ...(each === "charts" ? [] : [each])], kept)} aria-current={tab === each ? "page" : undefined} class={counts[each] === 0 ? "empty" : ""}>
            {each}{counts[each] ? <span class="quiet"> {counts[each]}</span> : null}
          </a>
        ))}
      </nav>
      {detail?.troubles?.map((trouble) => <p key={trouble} class="banner" role="status">{trouble}</p>)}
      {tab === "charts" && <ChartToolbar />}
      <div class="with-drawer">
        <div class="scroll">
          {tab === "charts" && (
            <>
              {detail && <AdviceCards advice={detail.advice} />}
              <ChartGrid runs={[name]} />
            </>
          )}
          {tab === "samples" && <SampleGrid runs={[name]} />}
          {tab === "recipe" && <Recipe run={name} />}
          {tab === "log" && <Log key={name} run={name} />}
          {tab === "environment" && <Environment run={name} />}
          {detail && tab === "saves" && <Saves detail={detail} />}
          {detail && tab === "histograms" && <HistogramGrid detail={detail} step={run.step} />}
          {detail && tab === "media" && <Media detail={detail} />}
          {detail && tab === "events" && <Events events={detail.events} />}
          {detail && tab === "reports" && <Pages detail={detail} />}
        </div>
        <CheckpointPanel />
      </div>
    </main>
  );
}
