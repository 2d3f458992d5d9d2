/** The frame around every view: where one is, whether the page is live, the theme, help. */
import { useEffect, useState } from "preact/hooks";
import { addressOf, HELP, startKeyboard } from "./keyboard";
import { useRoute } from "./state/route";
import { runsStore } from "./state/runs";
import { isDark, settings, turnTheme, useSettings } from "./state/settings";
import { useStore } from "./state/store";
import { shortName } from "./text/format";
import { Dialog } from "./ui/dialog";
import { Icon } from "./ui/icons";
import { ChartsView } from "./views/charts";
import { Rail } from "./views/rail";
import { RunsView } from "./views/runs";
import { ReportsView } from "./views/reports";
import { RunView } from "./views/run";
import { SamplesView } from "./views/samples";

const VIEWS = [["runs", "Runs"], ["charts", "Charts"], ["samples", "Samples"], ["reports", "Reports"]] as const;

export function App() {
  const { path } = useRoute();
  const [help, setHelp] = useState(false);
  const view = path[0] ?? "runs";
  const railHidden = useSettings((value) => value.railHidden);
  const error = useStore(runsStore, (state) => state.error);
  const troubles = useStore(runsStore, (state) => state.troubles);
  const loaded = useStore(runsStore, (state) => state.loaded);
  const any = useStore(runsStore, (state) => state.runs.length > 0);
  useEffect(() => startKeyboard(() => setHelp(true)), []);
  useEffect(() => {
    document.title = view === "run" && path[1] ? `${shortName(path[1])} · Polyana` : `${VIEWS.find(([name]) => name === view)?.[1] ?? "Runs"} · Polyana`;
  }, [view, path[1]]);
  const beside = view === "charts" || view === "samples";
  return (
    <div class="app">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("main")?.focus(); }}>To the content</a>
      <header class="top">
        <a class="brand" href="#/runs" aria-label="Polyana, runs">
          <svg viewBox="0 0 32 32" aria-hidden="true"><path d="M4 7c4 13 9 17 22 17" /><circle cx="26.500" cy="24" r="3" /></svg>
          polyana
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([name, title]) => <a key={name} href={addressOf(name)} aria-current={view === name ? "page" : undefined}>{title}</a>)}
          {view === "run" && path[1] && <a href={location.hash} aria-current="page" class="open-run">{shortName(path[1])}</a>}
        </nav>
        <Live />
        <Theme />
        <button type="button" class="quiet-button" aria-label="Keys" title="Keys (?)" onClick={() => setHelp(true)}>?</button>
      </header>
      {error && <p class="banner" role="alert">{error}</p>}
      {troubles.map((trouble) => <p key={trouble} class="banner" role="status">{trouble}</p>)}
      <div class={`body ${beside && !railHidden ? "railed" : ""}`}>
        {beside && (railHidden ? (
          <button type="button" class="show-rail" aria-label="Show the list of runs" title="Show the list of runs (b)" onClick={() => settings.set({ railHidden: false })}><Icon name="rail" /></button>
        ) : <Rail />)}
        {!loaded ? <p class="quiet padded" role="status">reading the runs …</p> : !any && !error && view !== "run" && view !== "reports" ? <Empty /> : <View view={view} path={path} />}
      </div>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

function View({ view, path }: { view: string; path: readonly string[] }) {
  switch (view) {
    case "charts":
      return <ChartsView />;
    case "samples":
      return <SamplesView />;
    case "reports":
      return <ReportsView />;
    case "run":
      return <RunView key={path[1] ?? ""} name={path[1] ?? ""} />;
    default:
      return <RunsView />;
  }
}

function Empty() {
  return (
    <main class="padded empty-home">
      <h1>Nothing has been trained here yet</h1>
      <p>Runs appear on this page as soon as they begin:</p>
      <pre class="code">polyana run recipes/presidents.yaml</pre>
    </main>
  );
}

const LINK = { live: "live", waiting: "connecting …", paused: "paused" } as const;

function Live() {
  const link = useStore(runsStore, (state) => state.link);
  const training = useStore(runsStore, (state) => state.runs.reduce((count, run) => count + Number(run.status === "training"), 0));
  const reading = useStore(runsStore, (state) => state.reading);
  const [first] = reading;
  if (first) return <span class="live waiting" role="status"><i />reading {shortName(first[0])} {Math.round(first[1] * 100)}%</span>;
  return (
    <span class={`live ${link}`} role="status" title={link === "live" ? "New points come by themselves" : "The line to the server is being mended"}>
      <i />
      {link === "live" && training ? `${training} training` : LINK[link]}
    </span>
  );
}

function Theme() {
  const dark = useSettings((value) => isDark(value.theme));
  return (
    <button type="button" class="quiet-button" aria-label={dark ? "Light theme" : "Dark theme"} title={`${dark ? "Light" : "Dark"} theme (t)`} onClick={turnTheme}>
      <Icon name={dark ? "sun" : "moon"} />
    </button>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <div class="keys">
        {HELP.map(([title, keys]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>{keys.map(([key, what]) => <div key={key}><dt>{key.split("  ").map((each) => <kbd key={each}>{each}</kbd>)}</dt><dd>{what}</dd></div>)}</dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
