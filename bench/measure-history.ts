import { setTimeout as sleep } from "node:timers/promises";
import type { Measurement } from "#bench/measurement.ts";
import { type DrawPair, uniformPairs } from "#bench/pairs.ts";
import { postTransfer } from "#bench/post-transfer.ts";
import { openRest, type Rest } from "#bench/rest.ts";

/**
 * How soon a transfer shows in the history of its account: a steady stream of transfers through REST, on a schedule of its
 * own that waits for nobody, and for some of them a reader who asks for the account's entries with `x-read-after`, again
 * when told that the history is behind, until the transfer is among them. The time runs from the answer to the transfer to
 * the answer that shows it.
 */
export const TRANSFERS_PER_SECOND = 300;
export const HISTORY_SECONDS = 60;
/** The same stream before it, which does not count: until then Elasticsearch has hardly compiled its code. */
const WARM_UP_SECONDS = 20;
const SAMPLE_EVERY = 10;
const PAUSE_WHEN_REFUSED_MS = 100;
const GIVE_UP_AFTER_MS = 60_000;
const MAX_CONNECTIONS = 256;
const MAX_READER_CONNECTIONS = 64;
const PAGE_SIZE = 50;
const TICK_MS = 5;
const FAILURES_SHOWN = 3;

export interface HistoryMeasurement {
  /** The transfers; their latency runs from the moment at which the schedule wanted them sent. */
  readonly transfers: Measurement;
  /** Of the sampled ones: until they were visible. */
  readonly visible: Measurement;
  readonly transferIds: readonly string[];
  /** Of all readers. */
  readonly reads: number;
  /** How often a reader was told to try again (429, 5xx): it did, and its clock went on. */
  readonly readsRefused: number;
}

/** `token` is good for longer than it takes; `groups`: accounts that can pay each other. Takes turns between the groups. */
export async function measureHistory(
  gateway: string,
  token: string,
  groups: readonly (readonly string[])[],
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<HistoryMeasurement> {
  const draws = groups.map(uniformPairs);
  const writing = openRest(gateway, token, MAX_CONNECTIONS);
  const reading = openRest(gateway, token, MAX_READER_CONNECTIONS);
  const transferIds: string[] = [];
  const firstFailures: string[] = [];
  const transferLatenciesUs: number[] = [];
  const visibleUs: number[] = [];
  let failed = 0;
  let reads = 0;
  let readsRefused = 0;
  const fail = (error: unknown) => {
    failed += 1;
    if (failed <= FAILURES_SHOWN) firstFailures.push(String(error));
  };

  async function transferAndWatch(index: number, dueMs: number): Promise<void> {
    const draw = draws[index % draws.length] as DrawPair;
    const [debit, credit] = draw();
    const { transferId, position } = await postTransfer(writing, debit, credit);
    const answeredMs = performance.now();
    transferIds.push(transferId);
    if (index < WARM_UP_SECONDS * TRANSFERS_PER_SECOND) return;
    transferLatenciesUs.push((answeredMs - dueMs) * 1000);
    if (index % SAMPLE_EVERY !== 0) return;
    const read = await waitUntilVisible(reading, credit, transferId, position, answeredMs);
    reads += read.reads;
    readsRefused += read.refused;
    visibleUs.push((performance.now() - answeredMs) * 1000);
  }

  try {
    const total = TRANSFERS_PER_SECOND * (WARM_UP_SECONDS + HISTORY_SECONDS);
    const startedMs = performance.now();
    const running: Promise<void>[] = [];
    while (running.length < total && !signal.aborted) {
      const dueNow = Math.ceil(((performance.now() - startedMs) / 1000) * TRANSFERS_PER_SECOND);
      for (const wanted = Math.min(dueNow, total); running.length < wanted; ) {
        const index = running.length;
        running.push(transferAndWatch(index, startedMs + (index * 1000) / TRANSFERS_PER_SECOND).catch(fail));
        if (index % (10 * TRANSFERS_PER_SECOND) === 0) say(`  ${index} of ${total} transfers`);
      }
      await sleep(TICK_MS);
    }
    const measuredMs = performance.now() - startedMs - WARM_UP_SECONDS * 1000;
    await Promise.all(running);
    // The warm-up counts in nothing but `transferIds`, which are looked for in the history.
    const common = { acknowledged: transferLatenciesUs.length, failed, firstFailures, measuredMs };
    return {
      transfers: { ...common, latenciesUs: Uint32Array.from(transferLatenciesUs) },
      visible: { ...common, latenciesUs: Uint32Array.from(visibleUs) },
      transferIds,
      reads,
      readsRefused,
    };
  } finally {
    writing.close();
    reading.close();
  }
}

async function waitUntilVisible(
  rest: Rest,
  accountId: string,
  transferId: string,
  position: string,
  sinceMs: number,
): Promise<{ reads: number; refused: number }> {
  const path = `/v1/history/entries?account_id=${accountId}&page_size=${PAGE_SIZE}`;
  let reads = 0;
  let refused = 0;
  for (let waitedMs = 0; waitedMs < GIVE_UP_AFTER_MS; waitedMs = performance.now() - sinceMs) {
    const { status, text } = await rest.get(path, { "x-read-after": position });
    reads += 1;
    if (status === 200 && text.includes(transferId)) return { reads, refused };
    if (status === 200) throw new Error(`the history answered without ${transferId}, though its position was reached`);
    if (status !== 429 && status < 500) throw new Error(`the history answered HTTP ${status}: ${text.slice(0, 300)}`);
    refused += 1;
    // It has waited by itself already when the projection is behind.
    if (!text.includes("PROJECTION_BEHIND")) await sleep(PAUSE_WHEN_REFUSED_MS);
  }
  throw new Error(`${transferId} is not visible after ${GIVE_UP_AFTER_MS / 1000} s`);
}
