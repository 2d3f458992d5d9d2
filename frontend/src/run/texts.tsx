/** A run's texts: recipe and its difference to another, log, environment, events. */
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchEnvironment, fetchLog, fetchRecipe } from "../api/client";
import type { RunDetail, RunEvent } from "../api/contract";
import { diffLines, folds, type DiffLine } from "../text/diff";
import { Difference, RunSelect } from "../runs/difference";
import { amend, useQuery } from "../state/route";
import { runsStore } from "../state/runs";
import { useStore } from "../state/store";
import { clock } from "../text/format";
import { useAnswer, Waiting } from "../ui/answer";
import { Copy } from "../ui/copy";

export function Recipe({ run }: { run: string }) {
  const other = useQuery("against");
  const mine = useAnswer(() => fetchRecipe(run), run);
  const theirs = useAnswer(() => (other ? fetchRecipe(other) : Promise.resolve("")), other);
  if (mine.value === undefined) return <Waiting answer={mine} />;
  const lines = other && theirs.value ? diffLines(theirs.value, mine.value) : null;
  return (
    <section class="padded">
      <div class="toolbar">
        <RunSelect label="compare with" value={other} none="no other run" onChange={(name) => amend({ against: name })} />
        <Copy text={mine.value} label="Copy the recipe" />
      </div>
      {other && theirs.error && <p class="bad">{theirs.error}</p>}
      {other && <Difference a={other} b={run} results={false} />}
      <pre class="code" tabIndex={0} aria-label="Recipe">
        {lines ? <DiffText lines={lines} /> : yaml(mine.value)}
      </pre>
    </section>
  );
}

/** What differs, with some lines around it; what is the same is folded until somebody opens it. */
function DiffText({ lines }: { lines: readonly DiffLine[] }) {
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  return (
    <>
      {folds(lines).map(({ from, to, folded }) =>
        folded && !opened.has(from) ? (
          <button key={from} type="button" class="fold" onClick={() => setOpened(new Set([...opened, from]))}>{to - from} lines are the same</button>
        ) : (
          lines.slice(from, to).map(({ kind, text }, index) => <span key={from + index} class={kind}>{{ same: "  ", gone: "− ", new: "+ " }[kind]}{text}{"\n"}</span>)
        ),
      )}
    </>
  );
}

/** Keys and comments in colours of their own; anything else stays as it is. */
function yaml(text: string) {
  return text.split("\n").map((line, index) => {
    const [, before = "", key = "", rest = ""] = /^(\s*(?:- )?)([\w.-]+:)?(.*)$/.exec(line) ?? [];
    const comment = rest.search(/(^|\s)#/);
    return (
      <span key={index}>
        {before}
        {key && <b>{key}</b>}
        {comment < 0 ? rest : rest.slice(0, comment)}
        {comment >= 0 && <i>{rest.slice(comment)}</i>}
        {"\n"}
      </span>
    );
  });
}

/** The log from a byte on, piece by piece until there is no more. */
async function readOn(run: string, from: number, each: (piece: { text: string; next: number }) => void): Promise<void> {
  let next = from;
  for (;;) {
    const piece = await fetchLog(run, next);
    if (!piece.text) return;
    next = piece.next;
    each(piece);
  }
}

const MOST = 200_000; // letters of a log that are kept on the page; guess

export function Log({ run }: { run: string }) {
  const [state, setState] = useState({ text: "", next: 0, error: "" });
  const stamp = useStore(runsStore, (runs) => runs.byName.get(run)?.updated ?? 0);
  const box = useRef<HTMLPreElement>(null);
  const busy = useRef(false);
  useEffect(() => {
    if (busy.current) return;
    busy.current = true;
    void readOn(run, state.next, ({ text, next }) => setState((before) => ({ text: (before.text + text).slice(-MOST), next, error: "" })))
      .catch((error: Error) => setState((before) => ({ ...before, error: error.message })))
      .finally(() => (busy.current = false));
  }, [run, stamp]);
  useEffect(() => {
    const element = box.current!;
    // Follow the end unless somebody has scrolled up to read.
    if (element.scrollHeight - element.scrollTop - element.clientHeight < 200) element.scrollTop = element.scrollHeight;
  }, [state.text]);
  return (
    <section class="padded">
      {state.error && <p class="bad" role="alert">{state.error}</p>}
      <pre class="code log" tabIndex={0} ref={box} aria-label="Log">{state.text || "nothing was said yet"}</pre>
    </section>
  );
}

export function Environment({ run }: { run: string }) {
  const answer = useAnswer(() => fetchEnvironment(run), run);
  if (!answer.value) return <Waiting answer={answer} />;
  return (
    <section class="padded">
      <table class="facts">
        <tbody>{flat(answer.value).map(([key, value]) => <tr key={key}><th>{key}</th><td>{value}</td></tr>)}</tbody>
      </table>
    </section>
  );
}

function flat(of: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(of).flatMap(([key, value]): [string, string][] =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? flat(value as Record<string, unknown>, `${prefix}${key}.`) : [[prefix + key, Array.isArray(value) ? value.join(", ") : String(value ?? "–")]],
  );
}

export function Events({ events }: { events: readonly RunEvent[] }) {
  if (!events.length) return <p class="quiet padded">Nothing has happened yet.</p>;
  return (
    <section class="padded wide">
      <table class="events">
        <thead><tr><th>step</th><th>when</th><th>event</th><th /></tr></thead>
        <tbody>
          {events.toReversed().map(({ step, time, event, ...about }, index) => (
            <tr key={index} class={event}>
              <td class="figure">{step.toLocaleString("en-US")}</td>
              <td class="quiet">{clock(time)}</td>
              <td><span class="tag">{event}</span></td>
              <td>{Object.entries(about).map(([key, value]) => <span key={key} class="pair"><span class="quiet">{key}</span> {typeof value === "object" ? JSON.stringify(value) : String(value)}</span>)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Reports of a run as they are: in an origin of their own, where they may draw and reach nothing of this page. */
export function Pages({ detail }: { detail: RunDetail }) {
  const wanted = useQuery("page");
  const page = detail.pages.find(({ title }) => title === wanted) ?? detail.pages[0];
  if (!page) return <p class="quiet padded">This run has no reports.</p>;
  return (
    <section class="pages">
      <div class="toolbar">
        <div class="segments" role="group" aria-label="Reports">
          {detail.pages.map(({ title }) => <button key={title} type="button" aria-pressed={title === page.title} onClick={() => amend({ page: title })}>{title}</button>)}
        </div>
      </div>
      <ReportFrame title={page.title} url={page.url} />
    </section>
  );
}

export function ReportFrame({ title, url }: { title: string; url: string }) {
  return <iframe key={url} sandbox="allow-scripts" src={url.replace(/^\//, "")} title={title} referrerpolicy="no-referrer" />;
}
