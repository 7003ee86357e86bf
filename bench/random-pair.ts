/** Two different elements, every pair as likely as any other. There must be at least two. */
export function randomPair<T>(elements: readonly T[]): [T, T] {
  const first = Math.floor(Math.random() * elements.length);
  const other = Math.floor(Math.random() * (elements.length - 1));
  return [elements[first] as T, elements[other < first ? other : other + 1] as T];
}

/** So many of them, drawn independently. */
export function randomPairs<T>(elements: readonly T[], count: number): [T, T][] {
  return Array.from({ length: count }, () => randomPair(elements));
}
