/** Which save is open beside the charts, and which it is compared with: in the address, as RUN@STEP. */
import { amend } from "../state/route";

export interface SaveReference {
  run: string;
  step: number;
}

export function parseSave(text: string): SaveReference | null {
  const at = text.lastIndexOf("@");
  const step = Number(text.slice(at + 1));
  return at > 0 && Number.isInteger(step) ? { run: text.slice(0, at), step } : null;
}

export function formatSave({ run, step }: SaveReference): string {
  return `${run}@${step}`;
}

export function openCheckpoint(run: string, step: number): void {
  amend({ save: formatSave({ run, step }) });
}

export function compareWith(other: SaveReference | null): void {
  amend({ with: other ? formatSave(other) : undefined });
}

export function closeCheckpoint(): void {
  amend({ save: undefined, with: undefined });
}
