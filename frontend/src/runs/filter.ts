/** The filter's little language: words, and `field:value`, `field>number`, `-not`; all of them must hold. */
import type { RunSummary } from "../api/contract";
import { fieldOf, numeric } from "./fields";

type Test = (run: RunSummary) => boolean;

const CLAUSE = /^([\w./-]+?)(:|=|!=|>=|<=|>|<)(.+)$/;

export function parseFilter(text: string): Test {
  const tests = (text.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).map((word) => parseWord(word.replaceAll('"', "")));
  return (run) => tests.every((test) => test(run));
}

function parseWord(word: string): Test {
  if (word.startsWith("-") && word.length > 1) {
    const test = parseWord(word.slice(1));
    return (run) => !test(run);
  }
  const clause = CLAUSE.exec(word);
  if (!clause) {
    const wanted = word.toLowerCase();
    return (run) => [run.name, run.notes, run.group, run.status, ...run.tags].some((text) => text.toLowerCase().includes(wanted));
  }
  const [, field, operator, value] = clause as unknown as [string, string, string, string];
  if (operator === ":") {
    const wanted = value.toLowerCase();
    return (run) => String(fieldOf(run, field) ?? "").toLowerCase().includes(wanted);
  }
  const limit = numeric(value);
  return (run) => {
    const have = fieldOf(run, field);
    if (operator === "=" || operator === "!=") {
      const same = limit !== null && numeric(have) !== null ? numeric(have) === limit : String(have ?? "") === value;
      return same === (operator === "=");
    }
    const amount = numeric(have);
    if (amount === null || limit === null) return false;
    if (operator === ">") return amount > limit;
    if (operator === "<") return amount < limit;
    return operator === ">=" ? amount >= limit : amount <= limit;
  };
}
