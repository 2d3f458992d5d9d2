/** Which save is open beside the charts, and which it is compared with: in the address. */
import { amend } from "../state/route";
import { formatSave, type SaveReference } from "./save-reference";

export function openCheckpoint(run: string, step: number): void {
  amend({ save: formatSave({ run, step }) });
}

export function compareWith(other: SaveReference | null): void {
  amend({ with: other ? formatSave(other) : undefined });
}

export function closeCheckpoint(): void {
  amend({ save: undefined, with: undefined });
}
