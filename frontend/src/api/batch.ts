/** Charts that ask for the same window at the same moment share one request; for the tails of their curves, all charts do. */
import { fetchSeries } from "./client";
import type { Line, SeriesData, SeriesQuery } from "./contract";

const MOST = 64; // series in a request, so that the first charts need not wait for the last; guess

interface Waiting {
  line: Line;
  resolve: (data: SeriesData) => void;
  reject: (why: unknown) => void;
}

const waiting = new Map<string, { query: SeriesQuery; asked: Waiting[] }>();

export function loadLine(line: Line, query: SeriesQuery): Promise<SeriesData> {
  return join(JSON.stringify(query), line, query);
}

/** What a curve has from `from` on. */
export function loadTail(line: Line, query: SeriesQuery, from: number): Promise<SeriesData> {
  const { x, smoothing, to, width } = query;
  return join(`tail ${x} ${smoothing}`, { ...line, from, to, width }, { x, smoothing, from: null, to: null, width });
}

function join(key: string, line: Line, query: SeriesQuery): Promise<SeriesData> {
  return new Promise((resolve, reject) => {
    const batch = waiting.get(key);
    if (batch) {
      batch.asked.push({ line, resolve, reject });
      return;
    }
    waiting.set(key, { query, asked: [{ line, resolve, reject }] });
    setTimeout(() => send(key)); // charts that are drawn together ask in one go
  });
}

function send(key: string): void {
  const batch = waiting.get(key);
  waiting.delete(key);
  if (!batch) return;
  for (let start = 0; start < batch.asked.length; start += MOST) void answer(batch.asked.slice(start, start + MOST), batch.query);
}

async function answer(asked: Waiting[], query: SeriesQuery): Promise<void> {
  try {
    const series = await fetchSeries(
      asked.map(({ line }) => line),
      query,
    );
    asked.forEach(({ resolve, reject }, index) => {
      const data = series[index];
      if (data) resolve(data);
      else reject(new RangeError("the server sent fewer series than were asked for"));
    });
  } catch (error) {
    for (const { reject } of asked) reject(error);
  }
}
