const POLL_MS = 25;

/** Resolves when `condition` holds; rejects with what it last answered when it did not in time. */
export async function eventually(
  condition: () => Promise<boolean> | boolean,
  what: string,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown = "it was false";
  for (;;) {
    try {
      if (await condition()) return;
      last = "it was false";
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
