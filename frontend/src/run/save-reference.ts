/** A save by its run and step, written RUN@STEP. */

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
