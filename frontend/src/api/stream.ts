/** Server-sent events of a POST, which EventSource cannot send. */
import { post } from "./client";

export interface StreamEvent {
  event: string;
  data: string;
}

/** Splits what has arrived into whole events; gives the rest back. */
export function parseEvents(text: string): { events: StreamEvent[]; rest: string } {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = blocks.pop() ?? "";
  const events: StreamEvent[] = [];
  for (const block of blocks) {
    let event = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) event = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
    if (data.length) events.push({ event, data: data.join("\n") });
  }
  return { events, rest };
}

export async function stream(address: string, body: unknown, signal: AbortSignal, each: (event: StreamEvent) => void): Promise<void> {
  const response = await post(address, body, signal);
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    text += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const { events, rest } = parseEvents(text);
    text = rest;
    events.forEach(each);
    if (done) return;
  }
}
