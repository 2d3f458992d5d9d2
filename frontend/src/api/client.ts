/** The server's answers as typed promises; a refusal is a `Refusal` with the server's own words. */
import type {
  Difference, Histograms, ImageRecord, Line, Notes, Report, RunDetail, RunSummary, Samples, SeriesData, SeriesQuery, TableRecord, TextRecord,
} from "./contract";
import { decodeSeries } from "./series";

export class Refusal extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export function runAddress(run: string, part = ""): string {
  return `api/runs/${encodeURIComponent(run)}${part}`;
}

async function ask(address: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, { ...init, headers: { Accept: "application/json", ...init?.headers } });
  } catch {
    throw new Refusal("the server does not answer; is `polyana ui` still running?", 0);
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

/** The letter in an answer that says no. */
export async function refusalOf(response: Response): Promise<Refusal> {
  const body: unknown = await response.json().catch(() => null);
  const said = body !== null && typeof body === "object" && "error" in body ? String(body.error) : "";
  return new Refusal(said || `the server answered ${response.status} to ${new URL(response.url).pathname}`, response.status);
}

async function json<T>(address: string, init?: RequestInit): Promise<T> {
  return (await ask(address, init)).json() as Promise<T>;
}

export function post(address: string, body: unknown, signal?: AbortSignal, method = "POST"): Promise<Response> {
  const init: RequestInit = { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return ask(address, signal ? { ...init, signal } : init);
}

export interface RunList {
  runs: RunSummary[];
  cursor: string | number;
  /** Runs that cannot be shown, and why. */
  troubles?: string[];
}

let first = (globalThis as { firstRuns?: Promise<Response | null> }).firstRuns;

/** The list of runs; the first time what index.html has asked for already. */
export async function fetchRuns(): Promise<RunList> {
  const answer = await first;
  first = undefined;
  return answer?.ok ? (answer.json() as Promise<RunList>) : json("api/runs");
}

export const fetchRun = (run: string): Promise<RunDetail> => json(runAddress(run));
export const fetchSamples = (run: string): Promise<Samples> => json(runAddress(run, "/samples"));
export const fetchEnvironment = (run: string): Promise<Record<string, unknown>> => json(runAddress(run, "/environment"));
export const fetchRecipe = async (run: string): Promise<string> => (await ask(runAddress(run, "/recipe"))).text();
export const fetchLog = (run: string, from: number): Promise<{ text: string; next: number }> =>
  json(runAddress(run, `/log?from=${from}`));
export const fetchHistograms = (run: string, name: string): Promise<Histograms> =>
  json(runAddress(run, `/histograms?name=${encodeURIComponent(name)}`));
export const fetchDifference = (a: string, b: string): Promise<Difference[]> =>
  json(`api/diff?a=${encodeURIComponent(a)}&b=${encodeURIComponent(b)}`);

export const fetchReports = (): Promise<Report[]> => json("api/reports");

export const fetchTexts = (run: string, name: string): Promise<TextRecord[]> => json(runAddress(run, `/texts?name=${encodeURIComponent(name)}`));
export const fetchTables = (run: string, name: string): Promise<TableRecord[]> => json(runAddress(run, `/tables?name=${encodeURIComponent(name)}`));
export const fetchImages = (run: string, name: string): Promise<ImageRecord[]> => json(runAddress(run, `/images?name=${encodeURIComponent(name)}`));

export async function saveNotes(run: string, notes: Partial<Notes>): Promise<void> {
  await post(runAddress(run), notes, undefined, "PATCH");
}

export async function markBest(run: string, step: number): Promise<void> {
  await post(runAddress(run, "/best"), { step });
}

export async function fetchSeries(series: Line[], query: SeriesQuery, signal?: AbortSignal): Promise<SeriesData[]> {
  const response = await post("api/series", { series, ...query }, signal);
  return decodeSeries(await response.arrayBuffer());
}
