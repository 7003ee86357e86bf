import { fundAccounts } from "#bench/fund-accounts.ts";
import { CALLERS, type Harness, unaryLoad } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { type Line, measureInTurns, toRow } from "#bench/lines.ts";
import { BIG_ACCOUNT_SHARE, loadEntries } from "#bench/load-entries.ts";
import { measurePages } from "#bench/measure-pages.ts";
import { type Measurement, summarize } from "#bench/measurement.ts";
import { uniformPairs } from "#bench/pairs.ts";
import type { Row } from "#bench/table.ts";
import { checkShards, countTransfers, vacuum, waitUntilPublished } from "#bench/verify.ts";

/** A shard with millions of entries against one that has next to none, in turns, in the same ledger. */

export const GROWTH = "growth";

const ACCOUNTS = 10_000;
const GROWN_SHARE_MIN = 0.85;
const PAGE_P99_MAX_MS = 10;
/** The relay may be behind a load of millions. */
const PUBLISHED_WITHIN_MS = 1_800_000;

export async function runGrowth(harness: Harness, entries: number): Promise<Row[]> {
  const { stack, say, signal } = harness;
  const ledger = openLedger(stack);
  try {
    say(`funding ${ACCOUNTS} accounts on each of two shards`);
    const grownIds = await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length);
    const emptyIds = await fundAccounts(ledger, ACCOUNTS, [2], stack.shards.length);
    say(`loading ${entries} entries on shard 1`);
    await loadEntries(ledger, grownIds, entries, signal, say);
    await waitUntilPublished(stack.shards, PUBLISHED_WITHIN_MS);
    say("vacuum, so that it does not come by chance while something is measured");
    await vacuum(stack.shards);

    const count = entries.toLocaleString("en");
    const empty = unaryLine(harness, `unary gRPC, ${CALLERS} callers, a shard with few entries`, emptyIds);
    const grown = unaryLine(harness, `unary gRPC, ${CALLERS} callers, a shard with ${count} entries`, grownIds);
    const lines: Line[] = [empty, { ...grown, atLeast: { times: GROWN_SHARE_MIN, of: [empty.name] } }];
    const measured = await measureInTurns(harness, lines);
    const ofBigAccount = (entries * BIG_ACCOUNT_SHARE).toLocaleString("en");
    say(`pages of an account with ${ofBigAccount} entries`);
    const { first, deep } = await measurePages(ledger, grownIds[0] as string);
    say("checking: sums, balances against entries, everything published");
    await checkShards(stack.shards);
    return [
      ...lines.map((line) => toRow(line, measured)),
      pageRow(`pages of 50, an account with ${ofBigAccount} entries: the newest`, first),
      pageRow("  and by token, from anywhere in it", deep),
    ];
  } finally {
    ledger.close();
  }
}

function unaryLine(harness: Harness, name: string, accountIds: readonly string[]): Line {
  const { client, stack } = harness;
  return {
    only: GROWTH,
    name,
    client: client.names.grpc,
    measure: () => client.measure(unaryLoad(harness, "grpc", uniformPairs(accountIds))),
    count: () => countTransfers(stack.shards),
  };
}

function pageRow(workload: string, measurement: Measurement): Row {
  const summary = summarize([measurement]);
  return {
    workload,
    summary,
    figure: `${Math.round(summary.perSecond)} pages`,
    bound: `p99 <= ${PAGE_P99_MAX_MS} ms`,
    met: summary.p99Ms <= PAGE_P99_MAX_MS,
  };
}
