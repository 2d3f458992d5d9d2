/** The points that a chart needs: loaded for a window, then only the tails of runs that moved. */
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef } from "preact/hooks";
import { loadLine, loadTail } from "../api/batch";
import type { Line, SeriesData, SeriesQuery } from "../api/contract";
import { appendTail } from "../api/series";
import { measureChange, SELDOM } from "../state/pace";
import { runsStore } from "../state/runs";
import { keyOf } from "./scene";

const THIN_AGAIN = 3; // a curve that has grown to this many points a bucket is loaded anew

const SKETCHED = 600; // ms until a run that the server still reads is asked for again; guess
const SHARE = 4; // times as long as an answer took, at least, so that drawing does not hold up reading; guess

interface Loaded {
  series: ReadonlyMap<string, SeriesData>;
  loading: boolean;
  error: string;
}

export function useSeries(lines: readonly Line[], query: SeriesQuery, enabled: boolean): Loaded {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const held = useRef({ query: "", series: new Map<string, SeriesData>(), loading: false, error: "", turn: 0, drawn: 0, took: 0 });
  const linesKey = lines.map(keyOf).join("\r");
  const queryKey = JSON.stringify(query);

  useLayoutEffect(() => {
    if (!enabled) return undefined;
    const state = held.current;
    const turn = ++state.turn;
    const fresh = state.query !== queryKey;
    const missing = fresh ? lines : lines.filter((line) => !state.series.has(keyOf(line)));
    if (!missing.length) {
      draw(0);
      return undefined;
    }
    state.loading = true;
    const settle = (loaded: SeriesData[], error: string): void => {
      if (turn !== state.turn) return;
      // Until here the points of the old window were shown: nothing flickers while finer ones are on their way.
      const kept = fresh ? new Map<string, SeriesData>() : state.series;
      for (const data of loaded) kept.set(keyOf(data), data);
      Object.assign(state, { series: new Map(kept), query: queryKey, loading: false, error });
      draw(0);
    };
    void Promise.allSettled(missing.map((line) => loadLine(line, query))).then((results) => {
      const loaded = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      const refused = results.find((result) => result.status === "rejected");
      settle(loaded, refused ? (refused.reason as Error).message : "");
    });
    return undefined;
  }, [linesKey, queryKey, enabled]);

  useEffect(() => {
    if (!enabled) return undefined;
    interface Stamp {
      attempts: number;
      step: number;
      updated: number;
    }
    const stamp = (name: string): Stamp => runsStore.get().byName.get(name) ?? { attempts: 0, step: 0, updated: 0 };
    const names = [...new Set(lines.map(({ run }) => run))];
    const seen = new Map(names.map((name) => [name, stamp(name)]));
    const before = (name: string): Stamp => seen.get(name)!;
    const hasMoved = (name: string): boolean => before(name).step !== stamp(name).step || before(name).updated !== stamp(name).updated || hasBegunAnew(name);
    const hasBegunAnew = (name: string): boolean => before(name).attempts !== stamp(name).attempts;
    /** Whether what is new is a pixel of the whole curve, or more. */
    const shows = (name: string): boolean => hasBegunAnew(name) || (stamp(name).step - before(name).step) * query.width >= stamp(name).step;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let busy = false;
    const fetchTails = async (): Promise<void> => {
      timer = undefined;
      const state = held.current;
      const turn = state.turn;
      state.drawn = Date.now();
      const moved = names.filter(hasMoved);
      const again = new Set(moved.filter(hasBegunAnew));
      for (const name of moved) seen.set(name, stamp(name));
      const wanted = lines.filter(({ run }) => moved.includes(run));
      busy = true;
      const loaded = await Promise.allSettled(
        wanted.map(async (line) => {
          const have = state.series.get(keyOf(line));
          const last = have?.rawX.at(-1);
          const whole = !have || last === undefined || again.has(line.run) || have.rawX.length > THIN_AGAIN * query.width;
          if (!whole && query.to !== null && last >= query.to) return have;
          return whole ? loadLine(line, query) : appendTail(have, await loadTail(line, query, last));
        }),
      );
      busy = false;
      if (turn !== state.turn) return;
      const series = new Map(state.series);
      for (const result of loaded) if (result.status === "fulfilled") series.set(keyOf(result.value), result.value);
      if ([...series].some(([key, data]) => state.series.get(key) !== data)) {
        state.series = series;
        draw(0);
        measureChange();
      }
      look();
    };
    const look = (): void => {
      if (busy || !names.some(hasMoved)) return;
      const wait = names.some(shows) ? 0 : held.current.drawn + SELDOM - Date.now();
      clearTimeout(timer);
      timer = undefined;
      if (wait <= 0) void fetchTails();
      else timer = setTimeout(() => void fetchTails(), wait);
    };
    const end = runsStore.subscribe(look);
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [linesKey, queryKey, enabled]);

  // Of a long run that the server reads for the first time there are sketches, until all is read.
  const { series, loading, error } = held.current;
  useEffect(() => {
    const sketched = enabled ? lines.filter((line) => (series.get(keyOf(line))?.read ?? 1) < 1) : [];
    if (!sketched.length) return undefined;
    const state = held.current;
    const { turn } = state;
    const again = (): void => {
      clearTimeout(timer);
      end();
      const began = Date.now();
      void Promise.allSettled(sketched.map((line) => loadLine(line, query))).then((results) => {
        if (turn !== state.turn) return;
        state.took = Date.now() - began;
        state.series = new Map(state.series);
        for (const result of results) if (result.status === "fulfilled") state.series.set(keyOf(result.value), result.value);
        draw(0);
      });
    };
    const timer = setTimeout(again, Math.max(SKETCHED, SHARE * state.took));
    // The server says when it is done with a run.
    let reading = runsStore.get().reading;
    const end = runsStore.subscribe(() => {
      const before = reading;
      reading = runsStore.get().reading;
      if (sketched.some(({ run }) => before.has(run) && !reading.has(run))) again();
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [series, linesKey, queryKey, enabled]);

  return useMemo(() => ({ series, loading, error }), [series, loading, error]);
}
