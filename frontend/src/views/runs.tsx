/** All runs: the table, parallel coordinates, and the difference of two. */
import { useMemo } from "preact/hooks";
import { chooseColumns, RunTable } from "../runs/table";
import { firstColumns } from "../runs/columns";
import { Difference, RunSelect } from "../runs/difference";
import { metricNames, titleOf, varyingKeys } from "../runs/fields";
import { parseFilter } from "../runs/filter";
import { Parallel } from "../runs/parallel";
import { amend, useQuery } from "../state/route";
import { runsStore } from "../state/runs";
import { useSettings } from "../state/settings";
import { useStore } from "../state/store";
import { useVisible } from "../state/visible";
import { Menu } from "../ui/menu";

const GROUPS = ["group", "recipe", "stage", "status", "tags"];

export function FilterBox({ id }: { id: string }) {
  const text = useQuery("filter");
  return (
    <input
      id={id} type="search" class="filter" placeholder="filter: words, lr>1e-3, status:training" aria-label="Filter runs" value={text} spellcheck={false}
      title="Words that a run's name, tags or notes have; or field:part, field=value, field>number; a minus before turns it round"
      onInput={(event) => amend({ filter: event.currentTarget.value })}
    />
  );
}

export function useFiltered() {
  const runs = useStore(runsStore, (state) => state.runs);
  const text = useQuery("filter");
  return useMemo(() => {
    const test = parseFilter(text);
    return text ? runs.filter(test) : runs;
  }, [runs, text]);
}

export function RunsView() {
  const all = useStore(runsStore, (state) => state.runs);
  const runs = useFiltered();
  const part = useQuery("part");
  const group = useQuery("group");
  const shown = useVisible();
  // Two that are looked at already are most likely the two that are meant.
  const [a, b] = [useQuery("a") || (shown[0] ?? ""), useQuery("b") || (shown[1] ?? "")];
  const columns = useSettings((value) => value.columns) ?? firstColumns(all);
  const choices = useMemo(() => [...varyingKeys(all).map((key) => `config.${key}`), "best", "best_by", ...metricNames(all).map((name) => `metric.${name}`)], [all.length]);
  const toggle = (field: string): void => chooseColumns(columns.includes(field) ? columns.filter((each) => each !== field) : [...columns, field]);
  const tab = (name: string, text: string) => (
    <button type="button" aria-pressed={part === name} onClick={() => amend({ part: name || undefined })}>{text}</button>
  );
  return (
    <main class="runs-view">
      <div class="toolbar">
        <div class="segments" role="group" aria-label="How to look at the runs">
          {tab("", "Table")}
          {tab("parallel", "Parallel")}
          {tab("diff", "Difference")}
        </div>
        {part !== "diff" && <FilterBox id="filter" />}
        {part === "" && (
          <>
            <label class="field inline">
              <span>group by</span>
              <select value={group} onChange={(event) => amend({ group: event.currentTarget.value })}>
                <option value="">nothing</option>
                {GROUPS.map((field) => <option key={field} value={field}>{field}</option>)}
                {varyingKeys(all).map((key) => <option key={key} value={`config.${key}`}>{key}</option>)}
              </select>
            </label>
            <Menu
              label="Columns" text="Columns"
              items={[
                { text: "The usual ones", run: () => chooseColumns(null) }, "line",
                ...choices.map((field) => ({ text: titleOf(field), checked: columns.includes(field), keep: true, run: () => toggle(field) })),
              ]}
            />
          </>
        )}
        <span class="quiet count" role="status">{runs.length === all.length ? `${all.length} runs` : `${runs.length} of ${all.length} runs`}</span>
      </div>
      {part === "" && <RunTable runs={runs} />}
      {part === "parallel" && <Parallel runs={runs} />}
      {part === "diff" && (
        <section class="panel padded">
          <div class="toolbar">
            <RunSelect label="first" value={a} onChange={(run) => amend({ a: run })} />
            <RunSelect label="second" value={b} onChange={(run) => amend({ b: run })} />
            <button type="button" onClick={() => amend({ a: b, b: a })}>Swap</button>
          </div>
          {a && b ? <Difference a={a} b={b} results /> : <p class="quiet">Choose two runs: what differs in their settings is shown here.</p>}
        </section>
      )}
    </main>
  );
}
