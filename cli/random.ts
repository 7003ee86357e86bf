/** Chance that repeats itself: the same seed gives the same numbers, on every machine. Not for secrets. */
export interface Random {
  /** 0 <= x < 1 */
  next(): number;
  /** A whole number, both ends included. */
  between(first: number, last: number): number;
  /** True so often, 0 to 1. */
  chance(probability: number): boolean;
  /** One of them; there must be one. */
  pick<Element>(elements: readonly Element[]): Element;
}

/** Mulberry32, by Tommy Ettinger (public domain). `seed` is a whole number; its lowest 32 bits count. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    between: (first, last) => first + Math.floor(next() * (last - first + 1)),
    chance: (probability) => next() < probability,
    pick: (elements) => elements[Math.floor(next() * elements.length)] as (typeof elements)[number],
  };
}
