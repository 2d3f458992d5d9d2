/** The colours of runs. Each has 4.5:1 or more against its theme's panel, for figures stand in them, too (WCAG 1.4.3); test/palette.test.ts measures it. */

export const PANEL = { light: "#ffffff", dark: "#161b19" } as const;

/** Nine hues, neighbours far apart: [on light, on dark]. Chosen by eye, then checked for contrast. */
export const PALETTE: readonly (readonly [string, string])[] = [
  ["#1b7f4b", "#5fce90"],
  ["#2563c9", "#78acff"],
  ["#c2500a", "#f59b57"],
  ["#7748d1", "#b89df7"],
  ["#c32a4c", "#f47d94"],
  ["#0a7f88", "#4fc9cf"],
  ["#8a6700", "#dcb84a"],
  ["#ad3296", "#e88bd7"],
  ["#587511", "#aecb58"],
];

/** FNV-1a, 32 bits: the same on every machine. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    value ^= text.charCodeAt(index);
    value = Math.imul(value, 0x01000193);
  }
  return value >>> 0;
}

/**
 * A place in the palette for each name: the one its hash says, or the next that none of the names takes. Those in
 * `kept` stay what they are.
 */
export function assignColours(names: readonly string[], kept: Readonly<Record<string, number>>): Record<string, number> {
  const assigned: Record<string, number> = {};
  const uses = PALETTE.map(() => 0);
  for (const name of names) {
    const place = kept[name];
    if (place !== undefined) {
      assigned[name] = place % PALETTE.length;
      uses[place % PALETTE.length]!++;
    }
  }
  for (const name of names) {
    if (assigned[name] !== undefined) continue;
    const fewest = Math.min(...uses);
    let place = hash(name) % PALETTE.length;
    while (uses[place]! > fewest) place = (place + 1) % PALETTE.length;
    assigned[name] = place;
    uses[place]!++;
  }
  return assigned;
}

export function colourAt(place: number, dark: boolean): string {
  return PALETTE[place % PALETTE.length]![dark ? 1 : 0];
}

/** WCAG 2's contrast ratio of two #rrggbb colours, 1 to 21. */
export function contrast(a: string, b: string): number {
  const [light, dim] = [luminance(a), luminance(b)].toSorted((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dim + 0.05);
}

function luminance(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const share = parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
