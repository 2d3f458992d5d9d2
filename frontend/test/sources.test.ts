import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const source = new URL("../src/", import.meta.url);
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) => /\.(tsx?|css)$/.test(name));

test("text from runs is never HTML, and nothing is evaluated or fetched from elsewhere", () => {
  const forbidden = /innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\(|new Function|srcdoc|javascript:|createContextualFragment|@import url|https?:\/\/(?!www\.w3\.org\/2000\/svg)/;
  expect(files.length).toBeGreaterThan(40);
  for (const name of files) expect(forbidden.exec(readFileSync(new URL(name, source), "utf8"))?.[0], name).toBeUndefined();
});

test("styles are set by their names, which a content security policy allows, not by an attribute", () => {
  for (const name of files) expect(readFileSync(new URL(name, source), "utf8"), name).not.toMatch(/setAttribute\(\s*["'`]style|\sstyle="/);
});
