/** The lines that one text has and another has not, by the longest common subsequence. */

export interface DiffLine {
  kind: "same" | "gone" | "new";
  text: string;
}

/** Recipes have tens or hundreds of lines: a whole table of lengths is small. */
export function diffLines(before: string, after: string): DiffLine[] {
  const [a, b] = [before.trimEnd().split("\n"), after.trimEnd().split("\n")];
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width); // [i, j]: of a from i on and b from j on
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1]! + 1 : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
    }
  }
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ kind: "same", text: a[i++]! });
      j++;
    } else if (j === b.length || (i < a.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!)) lines.push({ kind: "gone", text: a[i++]! });
    else lines.push({ kind: "new", text: b[j++]! });
  }
  return lines;
}

const AROUND = 3; // lines that stay beside a difference, as `diff -u` has
const LEAST = 5; // fewer are not worth folding; guess

/** Stretches of lines, in order; those that are the same on both sides, but for some around each difference, are folded. */
export function folds(lines: readonly DiffLine[]): { from: number; to: number; folded: boolean }[] {
  const near = (index: number): boolean => {
    for (let at = Math.max(0, index - AROUND); at <= Math.min(lines.length - 1, index + AROUND); at++) if (lines[at]!.kind !== "same") return true;
    return false;
  };
  const found: { from: number; to: number; folded: boolean }[] = [];
  for (let index = 0; index < lines.length; index++) {
    const folded = !near(index);
    const last = found.at(-1);
    if (last?.folded === folded) last.to = index + 1;
    else found.push({ from: index, to: index + 1, folded });
  }
  return found.map((each) => (each.to - each.from < LEAST ? { ...each, folded: false } : each));
}
