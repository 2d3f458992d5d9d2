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

const APART = 40; // degrees of hue that two runs' colours are apart while there is such a choice; guess

/** 0 to 360 degrees of a #rrggbb colour. */
export function hue(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)) as [number, number, number];
  const angle = Math.atan2(Math.sqrt(3) * (green - blue), 2 * red - green - blue);
  return ((angle * 180) / Math.PI + 360) % 360;
}

/** Degrees between a place's hue and the nearest of those that are taken as often as any; 180 where none is. */
function apart(place: number, uses: readonly number[], fewest: number): number {
  const taken = uses.flatMap((count, other) => (count > fewest ? [hue(PALETTE[other]![0])] : []));
  const own = hue(PALETTE[place]![0]);
  return Math.min(180, ...taken.map((each) => 180 - Math.abs(180 - Math.abs(own - each))));
}

/**
 * A place in the palette for each name: the one its hash says where no other name has that or one like it, else what is
 * farthest from those that are taken. Those in `kept` stay what they are.
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
    const first = hash(name) % PALETTE.length;
    const free = PALETTE.map((_, index) => (first + index) % PALETTE.length).filter((index) => uses[index] === fewest);
    const room = (index: number): number => Math.min(APART, apart(index, uses, fewest));
    const place = free.reduce((best, index) => (room(index) > room(best) ? index : best));
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
