/** One line of the table of runs. */
import type { RunSummary } from "../api/contract";
import { show } from "../state/visible";
import { ago } from "../text/format";
import { Icon } from "../ui/icons";
import { RunName } from "../ui/name";
import { Progress, Status } from "../ui/status";
import type { Column } from "./columns";

export interface RunRowProps {
  run: RunSummary;
  open: boolean;
  colour: string;
  columns: readonly Column[];
  index: number;
  current: boolean;
  now: number;
  onEdit: () => void;
}

export function Eye({ name, open, colour }: { name: string; open: boolean; colour: string }) {
  return (
    <button type="button" class={`eye ${open ? "open" : ""}`} aria-pressed={open} aria-label={`show ${name} in charts`} title={open ? "Hide in charts" : "Show in charts"} onClick={() => show([name], !open)} style={{ color: open ? colour : undefined }}>
      <Icon name={open ? "eye" : "shut"} />
    </button>
  );
}

/** That there is advice on a run's page. */
function Mark({ advice }: { advice: RunSummary["advice"] }) {
  if (!advice) return null;
  const told = `advice: ${advice.kind.replaceAll("_", " ")}`;
  return <span class={`mark ${advice.severity}`} role="img" aria-label={told} title={told}><Icon name={advice.severity === "warning" ? "warning" : "info"} /></span>;
}

export function RunRow({ run, open, colour, columns, index, current, now, onEdit }: RunRowProps) {
  return (
    <div class={`run-row ${current ? "current" : ""}`} role="row" aria-rowindex={index + 2} data-run={run.name}>
      <span role="cell" class="c-eye">
        <Eye name={run.name} open={open} colour={colour} />
        <i class="swatch" style={{ background: colour }} />
      </span>
      <span role="cell" class="c-name"><RunName name={run.name} /></span>
      <span role="cell" class="c-status"><Status run={run} /><Mark advice={run.advice} /></span>
      <span role="cell" class="c-progress" title={`step ${run.step.toLocaleString("en-US")}${run.steps ? ` of ${run.steps.toLocaleString("en-US")}` : ""}`}>
        <Progress run={run} />
        <em>{run.step.toLocaleString("en-US")}</em>
      </span>
      {columns.map((column) => (
        <span key={column.field} role="cell" class={column.number ? "figure" : ""} style={{ width: `${column.width}px` }} title={column.show(run)}>{column.show(run)}</span>
      ))}
      <span role="cell" class="c-when quiet" title={new Date(run.started * 1000).toLocaleString("sv-SE")}>{ago(run.started, now)}</span>
      <span role="cell" class="c-notes">
        <button type="button" class="quiet-button" aria-label={`Edit tags and notes of ${run.name}`} onClick={onEdit}><Icon name="edit" /></button>
        {run.tags.map((tag) => <span class="tag" key={tag}>{tag}</span>)}
        <span class="quiet">{run.notes}</span>
      </span>
    </div>
  );
}
