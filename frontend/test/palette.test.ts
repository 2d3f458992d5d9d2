import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { assignColours, contrast, hash, hue, PALETTE, PANEL } from "../src/state/palette";

test("a curve , and a value in its colour, stands out from its panel by 4.5:1 in both themes", () => {
  for (const [light, dark] of PALETTE) {
    expect(contrast(light, PANEL.light), light).toBeGreaterThanOrEqual(4.5);
    expect(contrast(dark, PANEL.dark), dark).toBeGreaterThanOrEqual(4.5);
  }
});

test("contrast is WCAG's", () => {
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
  expect(contrast("#777777", "#ffffff")).toBeCloseTo(4.48, 2); // the example everybody knows: just too little
});

const css = readFileSync(new URL("../src/style/base.css", import.meta.url), "utf8");

function theme(selector: string): Record<string, string> {
  const block = css.slice(css.indexOf(selector) + selector.length);
  return Object.fromEntries([...block.slice(0, block.indexOf("}")).matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((found) => [found[1]!, found[2]!]));
}

test.each([":root {", ':root[data-theme="dark"] {', ':root:not([data-theme="light"]) {'])("text is readable by WCAG AA in %s", (selector) => {
  const colours = theme(selector);
  for (const text of ["text", "faint", "accent", "warn", "bad", "good"]) {
    for (const back of ["back", "panel", "raised", "hover"]) expect(contrast(colours[text]!, colours[back]!), `${text} on ${back}`).toBeGreaterThanOrEqual(4.5);
  }
  expect(contrast(colours.accent!, colours.soft!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours["on-accent"]!, colours.accent!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours.warn!, colours["warn-soft"]!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours.edge!, colours.panel!)).toBeGreaterThanOrEqual(3);
});

test("both ways to a dark page give the same one", () => {
  expect(theme(':root[data-theme="dark"] {')).toEqual(theme(':root:not([data-theme="light"]) {'));
});

test("a run's colour follows from its name and stays when others come", () => {
  const before = assignColours(["a", "b"], {});
  expect(before.a).toBe(hash("a") % PALETTE.length);
  const after = assignColours(["a", "b", "c", "d", "e"], before);
  expect({ a: after.a, b: after.b }).toEqual(before);
  expect(assignColours(["a", "b"], {})).toEqual(before);
});

test("no colour is taken twice while one is free", () => {
  const names = Array.from({ length: PALETTE.length }, (_, index) => `run ${index}`);
  expect(new Set(Object.values(assignColours(names, {}))).size).toBe(PALETTE.length);
});

test("hues are those everybody knows", () => {
  expect(["#ff0000", "#ffff00", "#00ff00", "#0000ff"].map((colour) => Math.round(hue(colour)))).toEqual([0, 60, 120, 240]);
});

test("a few runs never look alike", () => {
  const away = (a: number, b: number): number => 180 - Math.abs(180 - Math.abs(hue(PALETTE[a]![0]) - hue(PALETTE[b]![0])));
  for (let start = 0; start < 200; start++) {
    const places = Object.values(assignColours([`run ${start}`, `run ${start + 1000}`, `run ${start + 2000}`, `run ${start + 3000}`], {}));
    for (const [index, a] of places.entries()) for (const b of places.slice(index + 1)) expect(away(a, b), `${start}`).toBeGreaterThanOrEqual(30);
  }
});
