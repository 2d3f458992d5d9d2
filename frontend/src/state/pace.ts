/**
 * How often the page may change by itself. What comes after a rest is shown at once; what comes soon after a change waits,
 * the longer the more a change takes from a processor that somebody may be training on.
 */

const LEAST = 700; // ms between two changes; guess
const REST = 20; // times as long as the last change took: drawing takes a twentieth of a processor at most
const LONGEST = 3000; // ms; later than that it would not be live. Guess

/** ms between two drawings of a curve that has not grown by a pixel. */
export const SELDOM = LONGEST;

let moment = -Infinity; // of the last change
let took = 0; // ms until it was painted
let measuring = false;

/** ms until the page may change again. */
export function restLeft(): number {
  return Math.max(0, moment + Math.min(LONGEST, Math.max(LEAST, REST * took)) - performance.now());
}

export function noteChange(): void {
  moment = performance.now();
}

/** See how long it is until what has just changed is painted: longer where other work has the processors. */
export function measureChange(): void {
  if (measuring) return;
  measuring = true;
  const began = performance.now();
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      took = performance.now() - began;
      measuring = false;
    }),
  );
}
