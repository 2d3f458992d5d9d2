/** One save beside the charts: its numbers, how to load it, what it writes, and another one to compare it with. */
import { useEffect, useRef, useState } from "preact/hooks";
import { markBest } from "../api/client";
import type { Checkpoint, Score } from "../api/contract";
import { refreshDetail, useColours, useDetail, useDetails } from "../state/runs";
import { useQuery } from "../state/route";
import { useVisible } from "../state/visible";
import { Copy } from "../ui/copy";
import { Icon } from "../ui/icons";
import { RunName } from "../ui/name";
import { bytes, compact, metric as formatMetric, number, shortName } from "../text/format";
import { closeCheckpoint, compareWith } from "./checkpoint-state";
import { formatSave, parseSave, type SaveReference } from "./save-reference";
import { Generate } from "./generate";

const EVALUATED = 2_000; // ms after which details that are shown count as old when a save is opened; guess

export function CheckpointPanel() {
  const save = parseSave(useQuery("save"));
  return save ? <Opened save={save} /> : null;
}

function useCheckpoint(save: SaveReference | null): Checkpoint | undefined {
  return useDetail(save?.run ?? "")?.checkpoints.find(({ step }) => step === save!.step);
}

function Opened({ save }: { save: SaveReference }) {
  const detail = useDetail(save.run);
  const kept = useCheckpoint(save);
  // Retention may take a save while somebody reads what it writes: what was known of it stays on the page.
  const seen = useRef<{ key: string; checkpoint: Checkpoint } | null>(null);
  if (kept) seen.current = { key: formatSave(save), checkpoint: kept };
  const checkpoint = kept ?? (seen.current?.key === formatSave(save) ? seen.current.checkpoint : undefined);
  const other = parseSave(useQuery("with"));
  const second = useCheckpoint(other);
  const colour = useColours();
  const [said, setSaid] = useState("");
  const best = checkpoint?.refs.includes("best") ?? false;
  // What a save scored in an evaluation comes without a step of its run.
  useEffect(() => refreshDetail(save.run, EVALUATED), [save.run, save.step]);
  const mark = (): void => {
    markBest(save.run, save.step).then(
      () => {
        setSaid("");
        refreshDetail(save.run, 0);
      },
      (error: Error) => setSaid(error.message),
    );
  };
  return (
    <aside class="drawer" aria-label={`Save at step ${save.step}`} onKeyDown={(event) => event.key === "Escape" && closeCheckpoint()}>
      <header>
        <i class={`save-dot ${best ? "best" : ""}`} style={{ color: colour(save.run) }} />
        <h2>Step {save.step.toLocaleString("en-US")}</h2>
        <button type="button" class="quiet-button" aria-label="Close the save" onClick={closeCheckpoint}>
          <Icon name="close" />
        </button>
      </header>
      <p><RunName name={save.run} /></p>
      {!kept && <p class="quiet" role="status">{detail ? "This save is not kept any more." : "reading …"}</p>}
      {checkpoint && (
        <>
          <p class="refs">
            {kept && checkpoint.refs.map((ref) => <span key={ref} class={`tag ${ref}`}>{ref}</span>)}
            {kept && !best && <button type="button" onClick={mark}>Mark as best</button>}
          </p>
          {said && <p class="bad" role="alert">{said}</p>}
          <Compare first={{ save, checkpoint }} second={other && second ? { save: other, checkpoint: second } : null} />
          {Object.entries(checkpoint.load).map(([tool, command]) => (
            <div class="command" key={tool}>
              <span class="quiet">{tool}</span>
              <Copy text={command} label={`Copy the ${tool} command`} />
              <pre tabIndex={0}>{command}</pre>
            </div>
          ))}
          <Generate saves={[save, ...(other && second ? [other] : [])]} />
        </>
      )}
    </aside>
  );
}

interface Side {
  save: SaveReference;
  checkpoint: Checkpoint;
}

function Compare({ first, second }: { first: Side; second: Side | null }) {
  const names = [...new Set([...Object.keys(first.checkpoint.metrics), ...Object.keys(second?.checkpoint.metrics ?? {})])].toSorted();
  const scores = scoresOf([first.checkpoint, ...(second ? [second.checkpoint] : [])]);
  const facts: [string, (checkpoint: Checkpoint) => string][] = [
    ["epoch", ({ epoch }) => number(epoch)],
    ["tokens", ({ tokens }) => compact(tokens)],
    ["size", (checkpoint) => bytes(checkpoint.bytes)],
    ["commit", ({ commit }) => commit.slice(0, 7)],
  ];
  return (
    <>
      <table class="facts">
        {second && (
          <thead>
            <tr>
              <td />
              <th>step {first.save.step.toLocaleString("en-US")}</th>
              <th>{second.save.run === first.save.run ? "" : `${shortName(second.save.run)} `}step {second.save.step.toLocaleString("en-US")}</th>
              <th>change</th>
            </tr>
          </thead>
        )}
        <tbody>
          {names.map((name) => {
            const [a, b] = [first.checkpoint.metrics[name], second?.checkpoint.metrics[name]];
            return (
              <tr key={name}>
                <th>{breakable(name)}</th>
                <td>{formatMetric(name, a)}</td>
                {second && <td>{b === undefined ? "–" : formatMetric(name, b)}</td>}
                {second && <td class="quiet">{typeof a === "number" && typeof b === "number" ? `${b > a ? "+" : ""}${number(b - a)}` : ""}</td>}
              </tr>
            );
          })}
          {scores.map(({ suite, metric }) => {
            const [a, b] = [first, second].map((side) => side?.checkpoint.evaluations[suite]?.[metric]);
            return (
              <tr key={`${suite} ${metric}`}>
                <th>{breakable(metric)}<span class="quiet suite">{suite}</span></th>
                <td><ScoreText score={a} metric={metric} /></td>
                {second && <td><ScoreText score={b} metric={metric} /></td>}
                {second && <td class="quiet">{a && b ? `${b.value > a.value ? "+" : ""}${number(b.value - a.value)}` : ""}</td>}
              </tr>
            );
          })}
          {facts.map(([name, show]) => (
            <tr key={name}>
              <th>{name}</th>
              <td>{show(first.checkpoint)}</td>
              {second && <td>{show(second.checkpoint)}</td>}
              {second && <td />}
            </tr>
          ))}
        </tbody>
      </table>
      <OtherSave first={first.save} second={second?.save ?? null} />
    </>
  );
}

/** A metric's name that may go on in another line behind `/` and `_`. */
function breakable(name: string) {
  return name.split(/(?<=[/_])/).map((part) => <>{part}<wbr /></>);
}

export function scoresOf(checkpoints: readonly Checkpoint[]): { suite: string; metric: string }[] {
  const found = new Map<string, { suite: string; metric: string }>();
  for (const { evaluations } of checkpoints)
    for (const [suite, metrics] of Object.entries(evaluations)) for (const metric of Object.keys(metrics)) found.set(`${suite}\n${metric}`, { suite, metric });
  return [...found.values()];
}

/** A score and, small, the interval that it lies in. */
function ScoreText({ score, metric }: { score: Score | undefined; metric: string }) {
  if (!score) return <>–</>;
  const { value, low, high } = score;
  return <>{formatMetric(metric, value)}{low !== undefined && high !== undefined && <span class="quiet interval"> {formatMetric(metric, low)} to {formatMetric(metric, high)}</span>}</>;
}

function OtherSave({ first, second }: { first: SaveReference; second: SaveReference | null }) {
  const runs = [...new Set([first.run, ...useVisible()])];
  const details = useDetails(runs);
  return (
    <label class="field">
      <span>compare with</span>
      <select value={second ? formatSave(second) : ""} onChange={(event) => compareWith(parseSave(event.currentTarget.value))}>
        <option value="">nothing</option>
        {runs.map((run) => (
          <optgroup key={run} label={shortName(run)}>
            {(details.get(run)?.checkpoints ?? [])
              .filter(({ step }) => run !== first.run || step !== first.step)
              .map(({ step, refs }) => <option key={step} value={formatSave({ run, step })}>step {step.toLocaleString("en-US")}{refs.includes("best") ? " (best)" : ""}</option>)}
          </optgroup>
        ))}
      </select>
    </label>
  );
}
