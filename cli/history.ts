import { pause } from "#lib/back-off.ts";

/** The history over REST, as a user of the API would read it. */
export type HistoryAnswer =
  | { readonly kind: "entries"; readonly entries: readonly HistoryLine[]; readonly waitedMs: number }
  /** Nothing answers at the base URL. */
  | { readonly kind: "no_gateway" }
  /** It answered, but not with entries, or not in time. */
  | { readonly kind: "failed"; readonly message: string };

/** As in JSON: integers are text. */
export interface HistoryLine {
  readonly sequence: string;
  readonly transfer_id: string;
  readonly balance_after_minor_units: string;
}

const PATIENCE_MS = 15_000;
const PAUSE_MS = 200;
const CALL_TIMEOUT_MS = 10_000;
/** The query has waited its two seconds, or a part is just starting. */
const PASSING_STATUSES = [429, 503, 504];

/** Newest entries of an account that include everything up to the position; waits until the projection has it. */
export async function readHistory(
  gateway: string,
  token: string,
  accountId: string,
  position: string,
  count: number,
  signal: AbortSignal,
): Promise<HistoryAnswer> {
  const started = performance.now();
  for (;;) {
    let response: Response;
    let text: string;
    try {
      response = await fetch(historyUrl(gateway, accountId, count), {
        headers: { authorization: `Bearer ${token}`, "x-read-after": position },
        signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
      });
      text = await response.text();
    } catch (error) {
      if (error instanceof DOMException) return { kind: "failed", message: `${gateway} did not answer in time` };
      return { kind: "no_gateway" };
    }
    const waitedMs = performance.now() - started;
    if (response.ok) {
      const { entries } = JSON.parse(text) as { entries: HistoryLine[] };
      return { kind: "entries", entries, waitedMs };
    }
    const passing = PASSING_STATUSES.includes(response.status) && waitedMs < PATIENCE_MS && !signal.aborted;
    if (!passing) return { kind: "failed", message: `${response.status} ${text.trim()}` };
    await pause(PAUSE_MS, signal);
  }
}

export function historyUrl(gateway: string, accountId: string, count: number): string {
  return `${gateway}/v1/history/entries?account_id=${accountId}&page_size=${count}`;
}
