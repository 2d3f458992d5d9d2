/** Let a save write on, while training goes on; what it writes appears as it is written. */
import { useEffect, useRef, useState } from "preact/hooks";
import { runAddress } from "../api/client";
import { stream } from "../api/stream";
import { formatSave, type SaveReference } from "./save-reference";

interface Written {
  text: string;
  state: "waiting" | "writing" | "done" | "failed";
  about: string;
}

const DEFAULTS = { prompt: "The", max_tokens: 60, temperature: 0.8, top_p: 0.95, seed: 0 };

export function Generate({ saves }: { saves: readonly SaveReference[] }) {
  const [form, setForm] = useState(DEFAULTS);
  const [written, setWritten] = useState<Record<string, Written>>({});
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const running = Object.values(written).some(({ state }) => state === "waiting" || state === "writing");

  const write = async (save: SaveReference, signal: AbortSignal): Promise<void> => {
    const key = formatSave(save);
    const change = (how: (before: Written) => Written): void => setWritten((all) => ({ ...all, [key]: how(all[key]!) }));
    change(() => ({ text: "", state: "waiting", about: "loading the model …" }));
    try {
      await stream(runAddress(save.run, "/generate"), { revision: `step-${save.step}`, ...form }, signal, ({ event, data }) => {
        const said = JSON.parse(data) as { text?: string; seconds?: number; error?: string };
        if (event === "token") change((before) => ({ text: before.text + (said.text ?? ""), state: "writing", about: "" }));
        else if (event === "done") change((before) => ({ ...before, state: "done", about: said.seconds === undefined ? "" : `${said.seconds.toFixed(1)} s` }));
        else if (event === "error") change((before) => ({ ...before, state: "failed", about: said.error ?? "" }));
      });
      change((before) => (before.state === "done" || before.state === "failed" ? before : { ...before, state: "failed", about: "the server stopped in the middle" }));
    } catch (error) {
      change((before) => ({ ...before, state: "failed", about: signal.aborted ? "stopped" : (error as Error).message }));
    }
  };
  const start = async (event: Event): Promise<void> => {
    event.preventDefault();
    stop.current?.abort();
    stop.current = new AbortController();
    setWritten({});
    for (const save of saves) await write(save, stop.current.signal); // one after the other: training needs the cores
  };
  const figure = (key: "max_tokens" | "temperature" | "top_p" | "seed", label: string, step: number, max: number) => (
    <label class="field" key={key}>
      <span>{label}</span>
      <input type="number" min={0} max={max} step={step} value={form[key]} onInput={(event) => setForm({ ...form, [key]: event.currentTarget.valueAsNumber || 0 })} />
    </label>
  );
  return (
    <form class="generate" onSubmit={(event) => void start(event)}>
      <h3>Generate</h3>
      <textarea aria-label="Prompt" rows={2} value={form.prompt} onInput={(event) => setForm({ ...form, prompt: event.currentTarget.value })} />
      <div class="figures">
        {figure("max_tokens", "tokens", 1, 4096)}
        {figure("temperature", "temperature", 0.05, 5)}
        {figure("top_p", "top p", 0.01, 1)}
        {figure("seed", "seed", 1, 2 ** 31)}
      </div>
      {running ? (
        <button type="button" onClick={() => stop.current?.abort()}>Stop</button>
      ) : (
        <button type="submit" class="main-button">Generate{saves.length > 1 ? " with both" : ""}</button>
      )}
      {saves.map((save) => {
        const result = written[formatSave(save)];
        if (!result) return null;
        return (
          <div key={formatSave(save)} class="written" aria-live="polite" data-state={result.state}>
            {saves.length > 1 && <h4>step {save.step.toLocaleString("en-US")}</h4>}
            <p class="prose"><b>{form.prompt}</b>{result.text}{result.state === "writing" && <i class="caret" />}</p>
            {result.about && <p class={result.state === "failed" ? "bad" : "quiet"}>{result.about}</p>}
          </div>
        );
      })}
    </form>
  );
}
