import type { Cut } from "#cli/check-cut.ts";
import { noteOffenders, type OffenderRow, offendersOf, type ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { type LogPage, type PostingSides, parsePostings, type ToldLegs, type ToldTransfer } from "#cli/check-log.ts";
import { LEG_SQL, type LegRow, TRANSFER_SQL, type TransferRow } from "#cli/check-log-rows.ts";
import { bucketOfUuid, timeMsOfUuid, uuidToId } from "#lib/ids.ts";
import { plainArray } from "#lib/sql-arrays.ts";

/**
 * Invariant 4 of `ledgermesh check`: what the shards say of transfers between them (docs/decisions/0010-cross-shard.md).
 *
 * No instant is common to two shards, so each question is asked in the order in which the protocol moves forward, and then
 * nothing that commits in between can look wrong:
 *
 *   transfer -> legs    Legs are prepared before the payer's shard commits, never released after it has, and posted before its
 *                       decision is closed. So whoever has seen the transfer and then looks at the other shards
 *                       must find every leg, PREPARED or POSTED; only POSTED where the decision was seen CLOSED before.
 *   legs -> transfer    A leg is posted after the payer's shard has committed. So whoever has seen a posted leg and then looks at
 *                       that shard must find the transfer.
 *
 * A transit account holds what this shard's own transfers have sent elsewhere and what legs have taken out: both are of this
 * shard, and in one log with it. With that and the two lines above, all transit accounts together hold what is open.
 */
export interface ShardComparison {
  readonly onPage: (page: LogPage) => Promise<void>;
  /** Once the log was walked to its end. */
  readonly finish: () => Promise<void>;
}

/** A decision is kept for a day at least (services/ledger/expire-keys.sql); clocks may differ. */
const DECISION_KEPT_MS = 23 * 60 * 60 * 1_000;
/** Recovery looks at what is 2 s old. */
const STUCK_AFTER = "interval '1 minute'";

/** @param others the readers of all shards, by their numbers */
export function compareShards(
  reader: ShardReader,
  cut: Cut,
  others: ReadonlyMap<number, ShardReader>,
  notebook: Notebook,
): ShardComparison {
  const transit = new Map<string, bigint>();
  const addTransit = (currency: string, amount: bigint) =>
    transit.set(currency, (transit.get(currency) ?? 0n) + amount);

  return {
    async onPage({ transfers, legs }) {
      await compareTransfers(
        transfers.filter(({ postings }) =>
          postings.some(({ debitShard, creditShard }) => debitShard !== cut.shard || creditShard !== cut.shard),
        ),
      );
      await compareLegs(legs);
    },
    async finish() {
      for (const { uuid, currency, postedMinorUnits } of cut.transit) {
        const expected = transit.get(currency) ?? 0n;
        if (postedMinorUnits === expected) continue;
        notebook.found({
          reason: "TRANSIT_WRONG",
          ids: { account_id: uuidToId("acct", uuid), currency },
          expected: expected.toString(),
          found: postedMinorUnits.toString(),
        });
      }
      notebook.looked("transit accounts", cut.transit.length);
      await checkOwnRecords(reader, notebook);
    },
  };

  /** This shard's transfers, and then their legs elsewhere. */
  async function compareTransfers(transfers: readonly ToldTransfer[]): Promise<void> {
    if (transfers.length === 0) return;
    notebook.looked("transfers", transfers.length);
    const decisions = await readDecisions(reader, transfers);
    const shards = new Set<number>();
    for (const { postings, row } of transfers) {
      for (const { debitShard, creditShard, amount, currency } of postings) {
        for (const shard of [debitShard, creditShard]) if (shard !== cut.shard) shards.add(shard);
        if (BigInt(row.event_number) > cut.head || debitShard === creditShard) continue;
        if (debitShard === cut.shard) addTransit(currency, BigInt(amount));
        if (creditShard === cut.shard) addTransit(currency, -BigInt(amount));
      }
    }
    for (const transfer of transfers) checkDecision(transfer, decisions.get(transfer.transferUuid));
    for (const shard of shards) {
      const there = transfers.filter(({ postings }) => postings.some((posting) => touches(posting, shard)));
      const values = [plainArray(there.map(({ transferUuid }) => transferUuid))];
      const other = others.get(shard);
      if (other === undefined) {
        notebook.couldNot(`shard ${shard} cannot be asked`);
        continue;
      }
      const legs = Map.groupBy(
        await other.ask<LegRow>({ name: "check-legs", text: LEG_SQL, values }),
        ({ transfer_id }) => transfer_id,
      );
      for (const transfer of there) {
        const state = decisions.get(transfer.transferUuid);
        checkLegsOf(transfer, shard, legs.get(transfer.transferUuid) ?? [], state);
      }
    }
  }

  function checkDecision({ transferUuid }: ToldTransfer, state: string | undefined): void {
    if (state === "COMMITTED" || state === "CLOSED") return;
    if (state === undefined && timeMsOfUuid(transferUuid) < Date.now() - DECISION_KEPT_MS) return;
    const ids = { transfer_id: uuidToId("xfer", transferUuid) };
    notebook.found({ reason: "DECISION_WRONG", ids, expected: "COMMITTED or CLOSED", found: state ?? "none" });
  }

  function checkLegsOf(
    { transferUuid, postings, row }: ToldTransfer,
    shard: number,
    legs: readonly LegRow[],
    decision: string | undefined,
  ): void {
    const ids = { transfer_id: uuidToId("xfer", transferUuid), leg_shard: String(shard) };
    const seen = new Set<LegRow>();
    for (const [index, posting] of postings.entries()) {
      if (!touches(posting, shard)) continue;
      const leg = legs.find(({ posting_index }) => posting_index === index);
      const legIds = { ...ids, posting_index: String(index) };
      if (leg === undefined) {
        notebook.found({ reason: "LEG_MISSING", ids: legIds, expected: describePosting(posting), found: "none" });
        continue;
      }
      seen.add(leg);
      notebook.looked("legs", 1);
      const [expected, found] = [`${row.type} ${describePosting(posting)}`, `${leg.type} ${describeLeg(leg)}`];
      if (expected !== found) notebook.found({ reason: "LEG_UNLIKE_POSTING", ids: legIds, expected, found });
      if (
        leg.debit_is_here !== (posting.debitShard === shard) ||
        leg.credit_is_here !== (posting.creditShard === shard)
      ) {
        notebook.found({
          reason: "LEG_UNLIKE_POSTING",
          ids: legIds,
          expected: "its sides on the shards of their buckets",
          found: "others",
        });
      }
      const mayBePrepared = decision === "COMMITTED";
      if (leg.state === "POSTED" || (leg.state === "PREPARED" && mayBePrepared)) continue;
      notebook.found({
        reason: "LEG_NOT_POSTED",
        ids: legIds,
        expected: mayBePrepared ? "PREPARED or POSTED" : "POSTED",
        found: leg.state,
      });
    }
    for (const leg of legs) {
      if (seen.has(leg)) continue;
      const legIds = { ...ids, posting_index: String(leg.posting_index) };
      notebook.found({ reason: "LEG_WITHOUT_POSTING", ids: legIds, expected: "none", found: describeLeg(leg) });
    }
  }

  /** The legs that were posted here, and then their transfers elsewhere. */
  async function compareLegs(legs: readonly ToldLegs[]): Promise<void> {
    for (const { number, rows } of legs) {
      for (const { debit_is_here, credit_is_here, amount, currency } of rows) {
        if (number > cut.head || debit_is_here === credit_is_here) continue;
        addTransit(currency, debit_is_here ? BigInt(amount) : -BigInt(amount));
      }
    }
    const byPayer = Map.groupBy(legs, ({ transferUuid }) => cut.shardOf[bucketOfUuid(transferUuid)] ?? 0);
    for (const [shard, told] of byPayer) {
      const payer = others.get(shard);
      if (payer === undefined) {
        notebook.couldNot(`shard ${shard} cannot be asked`);
        continue;
      }
      const values = [plainArray(told.map(({ transferUuid }) => transferUuid))];
      const text = `${TRANSFER_SQL} where transfer_id = any ($1)`;
      const transfers = new Map(
        (await payer.ask<TransferRow>({ name: "check-transfers", text, values })).map((row) => [row.transfer_id, row]),
      );
      for (const { transferUuid, rows } of told) {
        const transfer = transfers.get(transferUuid);
        const ids = { transfer_id: uuidToId("xfer", transferUuid), payer_shard: String(shard) };
        if (transfer === undefined || shard === cut.shard) {
          const found = transfer === undefined ? "none" : "one of this very shard";
          notebook.found({ reason: "LEG_WITHOUT_TRANSFER", ids, expected: "a transfer on its own shard", found });
          continue;
        }
        const postings = parsePostings(transfer.postings);
        for (const leg of rows) {
          const [debit, credit, amount, currency] = postings[leg.posting_index] ?? [];
          const expected = debit === undefined ? "no such posting" : `${debit} to ${credit} ${amount} ${currency}`;
          const legIds = { ...ids, posting_index: String(leg.posting_index) };
          const found = describeLeg(leg);
          if (found !== expected) notebook.found({ reason: "LEG_UNLIKE_POSTING", ids: legIds, expected, found });
        }
      }
    }
  }
}

const touches = ({ debitShard, creditShard }: PostingSides, shard: number) =>
  debitShard === shard || creditShard === shard;

function describePosting({ debitUuid, creditUuid, amount, currency }: PostingSides): string {
  return `${uuidToId("acct", debitUuid)} to ${uuidToId("acct", creditUuid)} ${amount} ${currency}`;
}

function describeLeg({ debit_account_id, credit_account_id, amount, currency }: LegRow): string {
  return `${uuidToId("acct", debit_account_id)} to ${uuidToId("acct", credit_account_id)} ${amount} ${currency}`;
}

/** Read before the legs: what is CLOSED then has all its legs posted. */
async function readDecisions(
  reader: ShardReader,
  transfers: readonly ToldTransfer[],
): Promise<ReadonlyMap<string, string>> {
  const rows = await reader.ask<{ transfer_id: string; state: string }>({
    name: "check-decisions",
    text: "select transfer_id, state from ledger.decisions where transfer_id = any ($1)",
    values: [plainArray(transfers.map(({ transferUuid }) => transferUuid))],
  });
  return new Map(rows.map(({ transfer_id, state }) => [transfer_id, state]));
}

/** What this shard's own rows say of one another: of one commit each, and seen by one statement. */
async function checkOwnRecords(reader: ShardReader, notebook: Notebook): Promise<void> {
  const offenders = await reader.ask<OffenderRow>({
    text: offendersOf(`
      select 'DECISION_WITHOUT_TRANSFER' as reason, json_build_object('transfer_id', d.transfer_id) as ids,
             'a transfer' as expected, 'none' as found
        from ledger.decisions d
       where d.state <> 'ABORTED' and not exists (select from ledger.transfers t where t.transfer_id = d.transfer_id)
      union all
      select 'ROOM_WRONG', json_build_object('account_id', a.account_id), coalesce(l.debits, 0) || ' and ' || coalesce(l.credits, 0),
             a.prepared_debit_minor_units || ' and ' || a.prepared_credit_minor_units
        from ledger.accounts a
        left join (select side.account_id, sum(debit) as debits, sum(credit) as credits
                     from ledger.remote_legs l
                     left join ledger.accounts transit on transit.reference = 'system:transit' and transit.currency = l.currency
                    -- The side that is not here is the transit account's.
                    cross join lateral (values
                      (case when debit_is_here then debit_account_id else transit.account_id end, l.amount_minor_units, 0),
                      (case when credit_is_here then credit_account_id else transit.account_id end, 0, l.amount_minor_units))
                               side (account_id, debit, credit)
                    where l.state = 'PREPARED' group by side.account_id) l using (account_id)
       where a.prepared_debit_minor_units <> coalesce(l.debits, 0) or a.prepared_credit_minor_units <> coalesce(l.credits, 0)`),
  });
  noteOffenders(notebook, offenders);
  const [open] = await reader.ask<{ stuck: string; oldest: string }>({
    text: `select count(*) as stuck, round(coalesce(max(age), 0)) as oldest
             from (select extract(epoch from now() - decided_at) as age from ledger.decisions
                    where state = 'COMMITTED' and decided_at < now() - ${STUCK_AFTER}
                   union all
                   select extract(epoch from now() - prepared_at) from ledger.remote_legs
                    where state = 'PREPARED' and prepared_at < now() - ${STUCK_AFTER}) o`,
  });
  const stuck = Number(open?.stuck ?? 0);
  if (stuck > 0)
    notebook.remark(
      `${stuck} records of transfers between shards are open for up to ${open?.oldest} s: does the ledger run?`,
    );
}
