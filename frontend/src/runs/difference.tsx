/** What differs between the configs of two runs. */
import type { RunSummary, Value } from "../api/contract";
import { fetchDifference } from "../api/client";
import { runsStore, useColours } from "../state/runs";
import { useStore } from "../state/store";
import { metric as formatMetric, plain as formatValue } from "../text/format";
import { useAnswer, Waiting } from "../ui/answer";
import { RunName } from "../ui/name";
import { bestBy } from "./fields";

export function RunSelect({ label, value, onChange, none }: { label: string; value: string; onChange: (run: string) => void; none?: string }) {
  const runs = useStore(runsStore, (state) => state.runs);
  return (
    <label class="field inline">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {(none !== undefined || !value) && <option value="">{none ?? "choose a run"}</option>}
        {runs.map((run) => <option key={run.name} value={run.name}>{run.name}</option>)}
      </select>
    </label>
  );
}

/** `results`: whether what came of the two is shown below what they were asked. */
export function Difference({ a, b, results }: { a: string; b: string; results: boolean }) {
  const answer = useAnswer(() => fetchDifference(a, b), `${a}\n${b}`);
  const colour = useColours();
  const runs = useStore(runsStore, (state) => state.byName);
  if (!answer.value) return <Waiting answer={answer} />;
  const outcome = results ? resultRows(runs.get(a), runs.get(b)) : [];
  return (
    <div class="wide">
      <table class="difference">
        <thead>
          <tr>
            <th>setting</th>
            {[a, b].map((run) => <th key={run}><i class="swatch" style={{ background: colour(run) }} /><RunName name={run} /></th>)}
          </tr>
        </thead>
        <tbody>
          {answer.value.map((row) => (
            <tr key={row.key}><th>{row.key}</th><Cell value={row.a} /><Cell value={row.b} /></tr>
          ))}
          {!answer.value.length && <tr><td colSpan={3} class="quiet">The settings of these two are the same.</td></tr>}
        </tbody>
        {outcome.length > 0 && (
          <tbody>
            <tr class="part"><th colSpan={3}>newest values</th></tr>
            {outcome.map(([name, x, y]) => <tr key={name}><th>{name}</th><td>{result(name, x)}</td><td>{result(name, y)}</td></tr>)}
          </tbody>
        )}
      </table>
    </div>
  );
}

function result(name: string, value: Value | undefined): string {
  return typeof value === "number" ? formatMetric(name, value) : formatValue(value);
}

function Cell({ value }: { value: Value }) {
  return value === null ? <td class="quiet">not set</td> : <td>{formatValue(value)}</td>;
}

function resultRows(a: RunSummary | undefined, b: RunSummary | undefined): [string, Value | undefined, Value | undefined][] {
  if (!a || !b) return [];
  type Row = [string, Value | undefined, Value | undefined];
  const best: Row[] = [["eval/loss at best", a.best?.["eval/loss"], b.best?.["eval/loss"]]];
  if ([a, b].some((run) => run.best && run.best.by !== "eval/loss")) best.push(["best by", bestBy(a), bestBy(b)]);
  const names = [...new Set([...Object.keys(a.last), ...Object.keys(b.last)])].filter((name) => !name.startsWith("system/")).toSorted();
  return [...best, ...names.map((name): Row => [name, a.last[name], b.last[name]])];
}
