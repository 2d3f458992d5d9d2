/** One look must tell: which run, how far, is it healthy. */
import { useState } from "preact/hooks";
import type { RunSummary } from "../api/contract";
import { NotesDialog } from "../runs/notes";
import { bestBy } from "../runs/fields";
import { Eye } from "../runs/row";
import { useColours } from "../state/runs";
import { useVisible } from "../state/visible";
import { ago, clock, compact, duration, metric as formatMetric, number, splitName } from "../text/format";
import { Copy } from "../ui/copy";
import { Icon } from "../ui/icons";
import { Progress, Status } from "../ui/status";
import { secondsLeft } from "./remaining";

export function RunHeader({ run }: { run: RunSummary }) {
  const [editing, setEditing] = useState(false);
  const colour = useColours()(run.name);
  const open = useVisible().includes(run.name);
  const { what, when } = splitName(run.name);
  const left = secondsLeft(run);
  const fact = (title: string, value: string | undefined, hint = "") => (value === undefined ? null : <div title={hint}><dt>{title}</dt><dd>{value}</dd></div>);
  const last = (name: string): string | undefined => (name in run.last ? formatMetric(name, run.last[name]) : undefined);
  return (
    <header class="run-header">
      <div class="title">
        <Eye name={run.name} open={open} colour={colour} />
        <i class="swatch" style={{ background: colour }} />
        <h1>{what} <span>{when}</span></h1>
        <Copy text={run.name} label="Copy the run's name" />
        <Status run={run} />
        {run.tags.map((tag) => <span class="tag" key={tag}>{tag}</span>)}
        <button type="button" class="quiet-button" aria-label="Edit tags and notes" title="Tags and notes" onClick={() => setEditing(true)}><Icon name="edit" /></button>
        <span class="exports">
          <a href={`api/runs/${encodeURIComponent(run.name)}/export.html`} download>HTML</a>
          <a href={`api/runs/${encodeURIComponent(run.name)}/metrics.csv`} download>CSV</a>
        </span>
      </div>
      {run.notes && <p class="quiet run-notes">{run.notes}</p>}
      {run.status === "failed" && run.why && <p class="bad run-notes">{run.why}</p>}
      <div class="how-far" style={{ color: colour }}><Progress run={run} /></div>
      <dl class="facts-line">
        {fact("step", `${run.step.toLocaleString("en-US")}${run.steps ? ` / ${run.steps.toLocaleString("en-US")}` : ""}`)}
        {fact(left === null ? "took" : "left", left === null ? duration(run.updated - run.started) : duration(left), left === null ? "from its beginning to its newest row" : "at the speed of the newest step")}
        {fact("loss", last("train/loss"))}
        {run.best && run.best.by !== "eval/loss" && fact("best", bestBy(run), `of all saves, by what it is picked by: ${run.best.lowest ? "less" : "more"} is better`)}
        {fact("eval at best", run.best ? `${number(run.best["eval/loss"])} at ${run.best.step.toLocaleString("en-US")}` : undefined, "the loss on held-out data of the best save")}
        {fact("tokens/s", last("train/tokens_per_second"))}
        {fact("tokens", run.tokens === null ? undefined : compact(run.tokens))}
        {fact("epoch", last("train/epoch"))}
        {fact("MFU", last("train/mfu"))}
        {fact("attempts", run.attempts > 1 ? String(run.attempts) : undefined, "how often it was begun or gone on with")}
        {fact("newest row", ago(run.updated, Date.now() / 1000), clock(run.updated))}
      </dl>
      {editing && <NotesDialog run={run} onClose={() => setEditing(false)} />}
    </header>
  );
}
