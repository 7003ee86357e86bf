import { BATCHES_IN_FLIGHT, batchRequest, TRANSFERS_PER_BATCH } from "#bench/measure-batches.ts";
import { type DrawPair, hotPairs, uniformPairs } from "#bench/pairs.ts";
import { call } from "#lib/grpc-client.ts";
import { type LedgerServiceClient, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/**
 * Fills a shard through the ledger's own batch calls: slower than a load by SQL could be, and every row, index and event is
 * what a ledger of this age has.
 */

const ENTRIES_PER_TRANSFER = 2;
/** Of the entries, what the first account gets: a million of ten. */
export const BIG_ACCOUNT_SHARE = 0.1;
const PARTS_SAID = 10;

/** So many entries, between the accounts by chance; the first one is credited by every fifth transfer. */
export async function loadEntries(
  ledger: LedgerServiceClient,
  accountIds: readonly string[],
  entries: number,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<void> {
  const [, ...others] = accountIds;
  const [anyPair, hotPair] = [uniformPairs(others), hotPairs(accountIds)];
  const everyNth = Math.round(1 / (ENTRIES_PER_TRANSFER * BIG_ACCOUNT_SHARE));
  let drawn = 0;
  const draw: DrawPair = () => (drawn++ % everyNth === 0 ? hotPair() : anyPair());

  const batches = Math.ceil(entries / ENTRIES_PER_TRANSFER / TRANSFERS_PER_BATCH);
  const batchesPerPart = Math.ceil(batches / PARTS_SAID);
  let [begun, done, partStartedMs] = [0, 0, performance.now()];
  async function work(): Promise<void> {
    while (begun < batches) {
      signal.throwIfAborted();
      begun += 1;
      const { response } = await call(ledger, ledger.batchCreateTransfers, batchRequest(draw));
      const refused = response.results.find(
        ({ outcome }) => outcome?.$case !== "transfer" || outcome.value.state !== Transfer_State.POSTED,
      );
      if (refused !== undefined) throw new Error(`a transfer was not posted: ${JSON.stringify(refused.outcome)}`);
      done += 1;
      if (done % batchesPerPart !== 0 && done !== batches) continue;
      const perSecond = (batchesPerPart * TRANSFERS_PER_BATCH * 1000) / (performance.now() - partStartedMs);
      say(`  ${done} of ${batches} batches, now ${Math.round(perSecond)} transfers/s`);
      partStartedMs = performance.now();
    }
  }
  await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, work));
}
