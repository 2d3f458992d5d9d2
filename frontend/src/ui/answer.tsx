/** Something asked of the server: waiting, there, or refused. */
import { useEffect, useState } from "preact/hooks";
import type { JSX } from "preact";

export interface Answer<T> {
  value: T | undefined;
  error: string;
}

/** Ask when `key` changes; an answer that comes too late is dropped. */
export function useAnswer<T>(ask: () => Promise<T>, key: string): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T> & { key: string }>({ key, value: undefined, error: "" });
  useEffect(() => {
    let late = false;
    ask().then(
      (value) => late || setAnswer({ key, value, error: "" }),
      (error: unknown) => late || setAnswer({ key, value: undefined, error: error instanceof Error ? error.message : String(error) }),
    );
    return () => {
      late = true;
    };
  }, [key]);
  return answer;
}

export function Waiting({ answer }: { answer: Answer<unknown> }): JSX.Element {
  return answer.error ? <p class="bad" role="alert">{answer.error}</p> : <p class="quiet" role="status">reading …</p>;
}
