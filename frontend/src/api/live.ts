/** What moves, as the server tells it; nothing is asked while the page is hidden, and a broken line is mended. */
import type { RunChange } from "./contract";

export type LinkState = "live" | "waiting" | "paused";

export interface LiveHandlers {
  update: (runs: RunChange[]) => void;
  gone: (run: string) => void;
  /** The server reads a long run for the first time: how much of it is done, 0 to 1. */
  reading: (run: string, share: number) => void;
  state: (state: LinkState) => void;
  /** The server has forgotten the cursor (it was started again): everything must be read anew. */
  lost: () => Promise<string>;
}

const PAUSES = [0.5, 1, 2, 5, 10]; // seconds before trying again, the last one for ever; guess

/** Follow the server from `cursor`; returns what ends it. */
export function follow(start: string, handlers: LiveHandlers): () => void {
  let cursor = start;
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let ended = false;

  const close = (): void => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = (): void => {
    close();
    if (ended) return;
    if (document.hidden) {
      handlers.state("paused");
      return;
    }
    source = new EventSource(`api/live?cursor=${encodeURIComponent(cursor)}`);
    source.addEventListener("open", () => {
      failures = 0;
      handlers.state("live");
    });
    source.addEventListener("update", (event) => {
      const said = JSON.parse(event.data as string) as { runs: RunChange[]; cursor: string | number };
      cursor = String(said.cursor);
      handlers.update(said.runs);
    });
    source.addEventListener("gone", (event) => handlers.gone((JSON.parse(event.data as string) as { run: string }).run));
    source.addEventListener("reading", (event) => {
      const { run, share } = JSON.parse(event.data as string) as { run: string; share: number };
      handlers.reading(run, share);
    });
    source.addEventListener("error", () => {
      close();
      handlers.state("waiting");
      timer = setTimeout(() => void again(), 1000 * PAUSES[Math.min(failures++, PAUSES.length - 1)]!);
    });
  };
  /** After a break the list is read anew: what happened meanwhile may be more than a cursor can tell. */
  const again = async (): Promise<void> => {
    try {
      cursor = await handlers.lost();
    } catch {
      if (!ended) timer = setTimeout(() => void again(), 1000 * PAUSES[Math.min(failures++, PAUSES.length - 1)]!);
      return;
    }
    open();
  };
  const turn = (): void => {
    if (document.hidden) {
      close();
      handlers.state("paused");
    } else if (!source) void again();
  };
  document.addEventListener("visibilitychange", turn);
  open();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", turn);
    close();
  };
}
