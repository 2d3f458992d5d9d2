/** Texts, tables and images that a run logged, by name and step. */
import { fetchImages, fetchTables, fetchTexts } from "../api/client";
import type { ImageRecord, RunDetail, TableRecord, TextRecord } from "../api/contract";
import { useState } from "preact/hooks";
import { plain } from "../text/format";
import { useAnswer, Waiting } from "../ui/answer";

export function Media({ detail }: { detail: RunDetail }) {
  const { name, texts, tables, images, step } = detail;
  if (!texts.length && !tables.length && !images.length) return <p class="quiet padded">No texts, tables or images were logged.</p>;
  return (
    <div class="media">
      {images.map((each) => <Records key={`image ${each}`} title={each} stamp={step} ask={() => fetchImages(name, each)} show={(record) => <Picture run={name} title={each} record={record} />} />)}
      {tables.map((each) => <Records key={`table ${each}`} title={each} stamp={step} ask={() => fetchTables(name, each)} show={(record) => <Table record={record} />} />)}
      {texts.map((each) => <Records key={`text ${each}`} title={each} stamp={step} ask={() => fetchTexts(name, each)} show={(record: TextRecord) => <p class="prose">{record.value}</p>} />)}
    </div>
  );
}

/** The record of one step, with a slider through the others. */
function Records<T extends { step: number }>({ title, stamp, ask, show }: { title: string; stamp: number; ask: () => Promise<T[]>; show: (record: T) => preact.JSX.Element }) {
  const answer = useAnswer(ask, `${title} ${stamp}`);
  const [at, setAt] = useState<number | null>(null);
  if (!answer.value) return <Waiting answer={answer} />;
  const last = answer.value.length - 1;
  const index = Math.min(at ?? last, last);
  const record = answer.value[index];
  if (!record) return null;
  return (
    <section class="panel record">
      <header>
        <h3>{title}</h3>
        {last > 0 && <input type="range" min={0} max={last} value={index} aria-label={`step of ${title}`} aria-valuetext={`step ${record.step}`} onInput={(event) => setAt(event.currentTarget.valueAsNumber)} />}
        <span class="quiet">step {record.step.toLocaleString("en-US")}</span>
      </header>
      {show(record)}
    </section>
  );
}

function Picture({ run, title, record }: { run: string; title: string; record: ImageRecord }) {
  const address = `files/${encodeURIComponent(run)}/${record.file.split("/").map(encodeURIComponent).join("/")}`;
  return <img src={address} alt={`${title} at step ${record.step}`} loading="lazy" />;
}

function Table({ record }: { record: TableRecord }) {
  return (
    <div class="wide">
      <table class="events">
        <thead><tr>{record.columns.map((column, index) => <th key={index}>{column}</th>)}</tr></thead>
        <tbody>{record.rows.map((row, index) => <tr key={index}>{row.map((cell, place) => <td key={place} class={typeof cell === "number" ? "figure" : "prose"}>{plain(cell)}</td>)}</tr>)}</tbody>
      </table>
    </div>
  );
}
