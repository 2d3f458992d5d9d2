/** The table of runs: sorted by any column, filtered, grouped; hundreds of rows scroll as one. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { RunSummary } from "../api/contract";
import { amend, go, useQuery } from "../state/route";
import { useColours } from "../state/runs";
import { settings, useSettings } from "../state/settings";
import { show, useVisible } from "../state/visible";
import { Icon } from "../ui/icons";
import { Virtual } from "../ui/virtual";
import { columnOf, firstColumns } from "./columns";
import { NotesDialog } from "./notes";
import { formatOrder, parseOrder, rowsOf, sortRuns } from "./order";
import { RunRow } from "./row";

const ROW = 34; // CSS pixels, as in table.css

export function RunTable({ runs }: { runs: readonly RunSummary[] }) {
  const order = parseOrder(useQuery("sort"));
  const group = useQuery("group");
  const chosen = useSettings((value) => value.columns);
  const shown = useVisible();
  const colour = useColours();
  const [folded, setFolded] = useState<ReadonlySet<string>>(new Set());
  const [current, setCurrent] = useState("");
  const [edited, setEdited] = useState("");

  const columns = useMemo(() => (chosen ?? firstColumns(runs)).map(columnOf), [chosen, runs.length]);
  const rows = useMemo(() => rowsOf(sortRuns(runs, order), group, folded), [runs, order.field, order.descending, group, folded]);
  const open = useMemo(() => new Set(shown), [shown.join("\n")]);
  const at = rows.findIndex((row) => row.kind === "run" && row.run.name === current);
  const now = Date.now() / 1000;

  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.target as HTMLElement).closest("input, textarea, select, dialog, .menu")) return;
      const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (step) {
        let next = at;
        do next += step;
        while (rows[next]?.kind === "group");
        const row = rows[next];
        if (row?.kind === "run") setCurrent(row.run.name);
      } else if (event.key === "e" && current) show([current], !open.has(current));
      else if (event.key === "n" && current) setEdited(current);
      else if (event.key === "Enter" && current && (event.target as HTMLElement).closest("a, button") === null) go(["run", current]);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  });

  const sortBy = (field: string): void => {
    const descending = order.field === field ? !order.descending : field === "started" || field === "progress";
    amend({ sort: formatOrder({ field, descending }) });
  };
  const head = (field: string, title: string, style: string, width?: number, hint = title) => (
    <span key={field} role="columnheader" class={style} style={width ? { width: `${width}px` } : {}} aria-sort={order.field === field ? (order.descending ? "descending" : "ascending") : "none"}>
      <button type="button" title={`Sort by ${hint}`} onClick={() => sortBy(field)}>
        {title}
        {order.field === field && <i class={`arrow ${order.descending ? "descending" : ""}`}><Icon name="down" /></i>}
      </button>
    </span>
  );
  const allOpen = runs.length > 0 && runs.every((run) => open.has(run.name));
  const editedRun = runs.find((run) => run.name === edited);
  return (
    <>
      <Virtual
        role="table" label="Runs" count={rows.length} rowHeight={ROW} reveal={at}
        head={
          <div class="run-row head" role="row" aria-rowindex={1}>
            <span role="columnheader" class="c-eye">
              <button type="button" class={`eye ${allOpen ? "open" : ""}`} aria-label="show or hide all these runs" title={allOpen ? "Hide all" : "Show all"} onClick={() => show(runs.map((run) => run.name), !allOpen)}>
                <Icon name={allOpen ? "eye" : "shut"} />
              </button>
            </span>
            {head("name", "run", "c-name")}
            {head("status", "state", "c-status")}
            {head("progress", "steps", "c-progress")}
            {columns.map((column) => head(column.field, column.title, column.number ? "figure" : "", column.width, column.field))}
            {head("started", "begun", "c-when")}
            {head("tags", "tags and notes", "c-notes")}
          </div>
        }
        row={(index) => {
          const row = rows[index]!;
          if (row.kind === "group") {
            const isFolded = folded.has(row.title);
            return (
              <div class="run-row group" role="row" key={`group ${row.title}`} aria-rowindex={index + 2}>
                <span role="cell">
                  <button
                    type="button" aria-expanded={!isFolded}
                    onClick={() => {
                      const next = new Set(folded);
                      if (!next.delete(row.title)) next.add(row.title);
                      setFolded(next);
                    }}
                  >
                    <Icon name={isFolded ? "right" : "down"} />
                    <b>{row.title || "(none)"}</b> <span class="quiet">{row.runs.length} runs</span>
                  </button>
                  <button type="button" class="link-button" onClick={() => show(row.runs.map((run) => run.name), !row.runs.every((run) => open.has(run.name)))}>
                    {row.runs.every((run) => open.has(run.name)) ? "hide all" : "show all"}
                  </button>
                </span>
              </div>
            );
          }
          const { run } = row;
          return (
            <RunRow
              key={run.name} run={run} open={open.has(run.name)} colour={colour(run.name)} columns={columns} index={index} current={run.name === current} now={now}
              onEdit={() => setEdited(run.name)}
            />
          );
        }}
      />
      {editedRun && <NotesDialog run={editedRun} onClose={() => setEdited("")} />}
    </>
  );
}

export function chooseColumns(columns: readonly string[] | null): void {
  settings.set({ columns: columns ? [...columns] : null });
}
