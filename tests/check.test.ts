import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { ALL_INVARIANTS, type CheckOptions, check } from "#cli/check.ts";
import { readCut } from "#cli/check-cut.ts";
import { idSlicesOf, openShardReader, type ShardReader, slicesOf } from "#cli/check-database.ts";
import { checkBalances } from "#cli/check-entries.ts";
import { MAX_FINDINGS, type Outcome, openNotebook } from "#cli/check-findings.ts";
import { walkLog } from "#cli/check-log.ts";
import { checkQuotes } from "#cli/check-quotes.ts";
import { compareShards } from "#cli/check-shards.ts";
import { shardUrls } from "#infra/local/endpoints.ts";
import { call } from "#lib/grpc-client.ts";
import { type Account, ReverseTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { capture, hold, voidHold } from "#tests/holds.ts";
import { withConnection } from "#tests/scratch-database.ts";
import { type ScratchSystem, scratchSystem } from "#tests/scratch-system.ts";
import { buildTown, type Town, uuidOf } from "#tests/scratch-town.ts";
import { ledger, newId, newKey, openFunded, postgres, shardNumbers, stackName, transfer } from "#tests/stack.ts";

/**
 * The check on a little system of its own, made by a ledger that was stopped: copies of its shards are spoiled in every way
 * we could think of, one at a time, and exactly what was spoiled must be named. And on the stack under load, where nothing
 * may be named.
 */
let system: ScratchSystem;
let town: Town;
before(async () => {
  system = await scratchSystem();
  town = await buildTown(system);
});
after(() => system.drop());

const UNKNOWN_IDS: ReadonlySet<string> = new Set(["bucket", "key", "keys", "resource_id"]);

async function run(options: Partial<CheckOptions> = {}): Promise<readonly Outcome[]> {
  const { outcomes } = await check({
    shards: system.urlsOf("auditor"),
    shard: undefined,
    only: ALL_INVARIANTS,
    signal: new AbortController().signal,
    screen: { write: () => true },
    ...options,
  });
  return outcomes;
}

/** Shard, invariant, reason and ids of each, as far as they are known here. */
async function findings(): Promise<string[]> {
  return (await run()).flatMap(({ shard, invariant, findings: found, impossible }) => [
    ...found.map(({ reason, ids }) => {
      const rest = Object.entries(ids).filter(([name]) => !UNKNOWN_IDS.has(name) && !name.endsWith("event_number"));
      const isTransit = ids.account_id !== undefined && !Object.values(town).includes(ids.account_id);
      const shown = rest.map(([name, id]) => (name === "account_id" && isTransit ? TRANSIT : id));
      return [shard, invariant, reason, ...shown].join(" ");
    }),
    ...(impossible === undefined ? [] : [`${shard} ${invariant} impossible: ${impossible}`]),
  ]);
}

test("what nobody has touched holds", async () => {
  assert.deepEqual(await findings(), []);
});

const byText = (a: string, b: string) => (a < b ? -1 : 1);

interface Plant {
  readonly shard: number;
  readonly sql: string;
  /** All that must be found: shard, invariant, reason and ids. */
  readonly found: readonly string[];
}

const entry = (account: string, sequence: number) => `account_id = ${uuidOf(account)} and sequence = ${sequence}`;
/** Adds an entry once more, as a ledger would write it: only its transfer has it twice then. */
const again = (account: string, sequence: number) => `
  insert into ledger.entries
  select a.account_id, a.entry_sequence + 1, e.bucket, e.transfer_id, e.posting_index, e.amount_minor_units,
         a.posted_minor_units + e.amount_minor_units, e.currency, e.counterparty_account_id, a.last_post_time, a.last_effective_time
    from ledger.entries e join ledger.accounts a using (account_id) where ${account} and e.sequence = ${sequence};
  update ledger.accounts a
     set entry_sequence = a.entry_sequence + 1, posted_minor_units = a.posted_minor_units + e.amount_minor_units
    from ledger.entries e where e.account_id = a.account_id and ${account} and e.sequence = ${sequence};`;
const transferOf = (id: string) => `transfer_id = ${uuidOf(id)}`;
/** Of the transit account only the shard and the currency are known. */
const TRANSIT = "transit";
/** Of a transfer that was never made. */
const GHOST = newId("xfer", 0);
const keyOf = (id: string) => `resource_id = ${uuidOf(id)}`;
const eventOf = (id: string) => `number = (select event_number from ledger.transfers where ${transferOf(id)})`;

const plants: Readonly<Record<string, (town: Town) => Plant>> = {
  "a lost entry": ({ alice, lunch }) => ({
    shard: 1,
    sql: `delete from ledger.entries where ${entry(alice, 2)}`,
    found: [
      `1 1 CURRENCY_NOT_ZERO EUR`,
      `1 1 POSTING_NOT_BALANCED ${lunch} 0`,
      `1 2 ENTRY_MISSING ${alice} 2`,
      `1 7 ENTRY_MISSING ${lunch} ${alice} 2`,
    ],
  }),
  "the newest entry of an account, lost": ({ dave, back }) => ({
    shard: 3,
    sql: `delete from ledger.entries where ${entry(dave, 3)}`,
    found: [
      `3 1 CURRENCY_NOT_ZERO EUR`,
      `3 1 POSTING_NOT_BALANCED ${back} 0`,
      `3 2 BALANCE_WRONG ${dave}`,
      `3 2 ENTRY_MISSING ${dave} 3`,
      `3 7 ENTRY_MISSING ${back} ${dave} 3`,
    ],
  }),
  "all entries of an account, lost": ({ dave, gifts, mistake, back }) => ({
    shard: 3,
    sql: `delete from ledger.entries where account_id = ${uuidOf(dave)}`,
    found: [
      `3 1 CURRENCY_NOT_ZERO EUR`,
      ...[`${gifts} 2`, `${mistake} 0`, `${back} 0`].map((posting) => `3 1 POSTING_NOT_BALANCED ${posting}`),
      `3 2 BALANCE_WRONG ${dave}`,
      `3 2 ENTRY_MISSING ${dave} 1`,
      ...[gifts, mistake, back].map((transfer, index) => `3 7 ENTRY_MISSING ${transfer} ${dave} ${index + 1}`),
    ],
  }),
  "both entries of a posting, lost": ({ alice, bob, lunch }) => ({
    shard: 1,
    sql: `delete from ledger.entries where ${transferOf(lunch)}`,
    found: [
      `1 2 ENTRY_MISSING ${alice} 2`,
      `1 2 ENTRY_MISSING ${bob} 1`,
      `1 7 ENTRY_MISSING ${lunch} ${alice} 2`,
      `1 7 ENTRY_MISSING ${lunch} ${bob} 1`,
    ],
  }),
  "a doubled entry": ({ alice, lunch }) => ({
    shard: 1,
    sql: `insert into ledger.entries select account_id, sequence, bucket, transfer_id, posting_index, amount_minor_units,
            balance_after_minor_units, currency, counterparty_account_id, post_time + interval '1 millisecond', effective_time
            from ledger.entries where ${entry(alice, 2)}`,
    found: [`1 1 CURRENCY_NOT_ZERO EUR`, `1 1 POSTING_NOT_BALANCED ${lunch} 0`, `1 2 SEQUENCE_WRONG ${alice} 2`],
  }),
  "a posting that is entered twice, with balances to match": ({ alice, bob, lunch }) => ({
    shard: 1,
    sql: again(`a.account_id = ${uuidOf(alice)}`, 2) + again(`a.account_id = ${uuidOf(bob)}`, 1),
    found: [`1 1 POSTING_NOT_BALANCED ${lunch} 0`, `1 7 ENTRIES_NOT_TOLD ${lunch}`],
  }),
  "a posting that is entered twice, as another posting": ({ alice, bob, lunch }) => ({
    shard: 1,
    sql: `${again(`a.account_id = ${uuidOf(alice)}`, 2) + again(`a.account_id = ${uuidOf(bob)}`, 1)}
          update ledger.entries e set posting_index = 1 from ledger.accounts a
           where a.account_id = e.account_id and a.entry_sequence = e.sequence and e.${transferOf(lunch)}`,
    found: [`1 7 ENTRIES_NOT_TOLD ${lunch}`],
  }),
  "an altered amount": ({ alice, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set amount_minor_units = -51 where ${entry(alice, 3)}`,
    found: [
      `1 1 CURRENCY_NOT_ZERO EUR`,
      `1 1 POSTING_NOT_BALANCED ${snack} 0`,
      `1 2 BALANCE_AFTER_WRONG ${alice} 3`,
      `1 7 ENTRY_DIFFERS ${snack} ${alice} 3 amount_minor_units`,
    ],
  }),
  "an altered balance_after": ({ alice, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set balance_after_minor_units = 851 where ${entry(alice, 3)}`,
    found: [`1 2 BALANCE_AFTER_WRONG ${alice} 3`, `1 7 ENTRY_DIFFERS ${snack} ${alice} 3 balance_after_minor_units`],
  }),
  "an altered counterparty": ({ alice, carol, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set counterparty_account_id = ${uuidOf(carol)} where ${entry(alice, 3)}`,
    found: [`1 7 ENTRY_DIFFERS ${snack} ${alice} 3 counterparty_account_id`],
  }),
  "an altered currency": ({ alice, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set currency = 'USD' where ${entry(alice, 3)}`,
    found: [
      `1 1 CURRENCY_NOT_ZERO EUR`,
      `1 1 CURRENCY_NOT_ZERO USD`,
      `1 1 POSTING_NOT_BALANCED ${snack} 0`,
      `1 2 CURRENCY_WRONG ${alice} 3`,
      `1 7 ENTRY_DIFFERS ${snack} ${alice} 3 currency`,
    ],
  }),
  "an entry given to another transfer": ({ alice, lunch, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set transfer_id = ${uuidOf(lunch)} where ${entry(alice, 3)}`,
    found: [
      `1 1 POSTING_NOT_BALANCED ${lunch} 0`,
      `1 1 POSTING_NOT_BALANCED ${snack} 0`,
      `1 7 ENTRY_DIFFERS ${snack} ${alice} 3 transfer_id`,
    ],
  }),
  "a post time that falls": ({ alice, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set post_time = post_time - interval '1 hour' where ${entry(alice, 3)}`,
    found: [`1 2 POST_TIME_FALLS ${alice} 3`, `1 7 ENTRY_MISSING ${snack} ${alice} 3`],
  }),
  "an effective time that falls": ({ alice, snack }) => ({
    shard: 1,
    sql: `update ledger.entries set effective_time = effective_time - interval '1 hour' where ${entry(alice, 3)}`,
    found: [`1 2 EFFECTIVE_TIME_FALLS ${alice} 3`, `1 7 ENTRY_DIFFERS ${snack} ${alice} 3 effective_time`],
  }),
  "a wrong balance": ({ bob }) => ({
    shard: 1,
    sql: `update ledger.accounts set posted_minor_units = posted_minor_units + 1 where account_id = ${uuidOf(bob)}`,
    found: [`1 2 BALANCE_WRONG ${bob}`],
  }),
  "an account that says it has more entries": ({ dave }) => ({
    shard: 3,
    sql: `update ledger.accounts set entry_sequence = 4 where account_id = ${uuidOf(dave)}`,
    found: [`3 2 ENTRY_MISSING ${dave} 4`],
  }),
  "an account that says it has fewer entries": ({ dave }) => ({
    shard: 3,
    sql: `update ledger.accounts set entry_sequence = 0 where account_id = ${uuidOf(dave)}`,
    found: [`3 2 ENTRY_BEYOND_ACCOUNT ${dave} 3`],
  }),
  "an account that says another time of its last entry": ({ alice, bob }) => ({
    shard: 1,
    sql: `update ledger.accounts set last_post_time = '-infinity' where account_id = ${uuidOf(alice)};
          update ledger.accounts set last_effective_time = now() where account_id = ${uuidOf(bob)}`,
    found: [`1 2 LAST_TIMES_WRONG ${alice}`, `1 2 LAST_TIMES_WRONG ${bob}`],
  }),
  "a lost account": ({ dave }) => ({
    shard: 3,
    sql: `delete from ledger.accounts where account_id = ${uuidOf(dave)}`,
    found: [
      `3 2 ENTRY_WITHOUT_ACCOUNT ${dave} 3`,
      `3 5 KEY_WITHOUT_EFFECT service:console create_account`,
      `3 7 EVENT_WITHOUT_ACCOUNT ${dave}`,
    ],
  }),
  "a wrong held amount": ({ alice, bob }) => ({
    shard: 1,
    sql: `update ledger.accounts set held_minor_units = held_minor_units + 1 where account_id in (${uuidOf(alice)}, ${uuidOf(bob)})`,
    found: [`1 3 HELD_WRONG ${alice}`, `1 3 HELD_WRONG ${bob}`],
  }),
  "a hold that was let go of": ({ alice, deposit }) => ({
    shard: 1,
    sql: `update ledger.holds set state = 'VOIDED' where hold_id = ${uuidOf(deposit)}`,
    found: [`1 3 HELD_WRONG ${alice}`],
  }),
  "an account below its floor": ({ dave }) => ({
    shard: 3,
    sql: `alter table ledger.accounts drop constraint never_below_floor;
          update ledger.accounts set posted_minor_units = -1 where account_id = ${uuidOf(dave)}`,
    found: [`3 2 BALANCE_WRONG ${dave}`, `3 3 BELOW_FLOOR ${dave}`],
  }),
  "a key with two effects": ({ lunch }) => ({
    shard: 1,
    sql: `insert into ledger.idempotency_keys select bucket, caller, method, 'another', fingerprint, resource_id, refusal, created_at
            from ledger.idempotency_keys where ${keyOf(lunch)}`,
    found: [`1 5 SEVERAL_KEYS`],
  }),
  "a key that made nothing": ({ bob }) => ({
    shard: 1,
    sql: `insert into ledger.idempotency_keys select bucket, caller, method, 'another', fingerprint, gen_random_uuid(), refusal, created_at
            from ledger.idempotency_keys where ${keyOf(bob)}`,
    found: [`1 5 KEY_WITHOUT_EFFECT service:console create_account`],
  }),
  "a refused command that was done": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.idempotency_keys set refusal = '{}' where ${keyOf(lunch)}`,
    found: [`1 5 REFUSED_WITH_EFFECT service:console create_transfer`],
  }),
  "a lost key": ({ lunch }) => ({
    shard: 1,
    sql: `delete from ledger.idempotency_keys where ${keyOf(lunch)}`,
    found: [`1 5 TRANSFER_WITHOUT_KEY ${lunch}`],
  }),
  "a lost event": ({ lunch }) => ({
    shard: 1,
    sql: `delete from ledger.events where ${eventOf(lunch)}`,
    found: [`1 7 EVENT_MISSING`, `1 7 TRANSFER_WITHOUT_EVENT ${lunch}`, `1 8 EVENT_MISSING`],
  }),
  "a lost transfer": ({ snack }) => ({
    shard: 1,
    sql: `delete from ledger.transfers where ${transferOf(snack)}`,
    found: [`1 5 KEY_WITHOUT_EFFECT service:console create_transfer`, `1 7 EVENT_WITHOUT_TRANSFER ${snack}`],
  }),
  "a transfer that no event tells of": ({ lunch }) => ({
    shard: 1,
    sql: `insert into ledger.transfers select ${uuidOf(GHOST)}, bucket, state, type, memo, metadata, postings, balances, post_time,
            effective_time, (select sequence + 1 from ledger.shard_head), links from ledger.transfers where ${transferOf(lunch)}`,
    found: [`1 5 TRANSFER_WITHOUT_KEY ${GHOST}`, `1 7 TRANSFER_WITHOUT_EVENT ${GHOST}`],
  }),
  "a transfer under another's event": ({ lunch }) => ({
    shard: 1,
    sql: `insert into ledger.transfers select ${uuidOf(GHOST)}, bucket, state, type, memo, metadata, postings, balances, post_time,
            effective_time, event_number, links from ledger.transfers where ${transferOf(lunch)}`,
    found: [
      `1 5 TRANSFER_WITHOUT_KEY ${GHOST}`,
      `1 7 TRANSFER_WITHOUT_EVENT ${GHOST}`,
      `1 7 TRANSFER_WITHOUT_EVENT ${lunch}`,
    ],
  }),
  "an altered transfer": ({ snack }) => ({
    shard: 1,
    sql: `update ledger.transfers set memo = 'breakfast', postings = replace(postings::text, '"50"', '"51"')::json
           where ${transferOf(snack)}`,
    found: [
      `1 7 ENTRIES_UNLIKE_POSTINGS ${snack}`,
      `1 7 TRANSFER_DIFFERS ${snack} memo`,
      `1 7 TRANSFER_DIFFERS ${snack} postings`,
    ],
  }),
  "an altered event": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.events set payload = replace(payload, '"memo":""', '"memo":"breakfast"') where ${eventOf(lunch)}`,
    found: [`1 7 TRANSFER_DIFFERS ${lunch} memo`, `1 8 EVENT_ALTERED`],
  }),
  "an event that cannot be read": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.events set payload = 'x' where ${eventOf(lunch)}`,
    found: [`1 7 EVENT_UNREADABLE`, `1 8 EVENT_ALTERED`],
  }),
  "an altered transfer whose ids are no ids": ({ snack }) => ({
    shard: 1,
    sql: `update ledger.transfers set postings = replace(postings::text, 'acct_', 'acct-')::json where ${transferOf(snack)}`,
    found: [`1 7 ENTRIES_UNLIKE_POSTINGS ${snack}`, `1 7 TRANSFER_DIFFERS ${snack} postings`],
  }),
  "an event about nothing": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.events set payload = '{}' where ${eventOf(lunch)}`,
    found: [`1 7 EVENT_UNREADABLE`, `1 8 EVENT_ALTERED`],
  }),
  "a doubled event": ({ lunch }) => ({
    shard: 1,
    sql: `insert into ledger.events select number, bucket, aggregate_id, aggregate_version, type, schema_version, payload,
            occurred_at + interval '1 second' from ledger.events where ${eventOf(lunch)}`,
    found: [`1 7 EVENT_REPEATED`, `1 8 EVENT_REPEATED`],
  }),
  "an event beyond the head": ({ lunch }) => ({
    shard: 1,
    sql: `insert into ledger.events select (select sequence + 1 from ledger.shard_head), bucket, aggregate_id, aggregate_version,
            'hold_changed', schema_version, payload, occurred_at from ledger.events where ${eventOf(lunch)}`,
    found: [`1 7 EVENT_BEYOND_HEAD`, `1 8 EVENT_BEYOND_HEAD`],
  }),
  "an account that was opened by another event": ({ bob }) => ({
    shard: 1,
    sql: `update ledger.accounts set open_event_number = 1000 where account_id = ${uuidOf(bob)}`,
    found: [`1 7 ACCOUNT_WITHOUT_EVENT ${bob}`, `1 7 EVENT_WITHOUT_ACCOUNT ${bob}`],
  }),
  "a cursor beyond the head": () => ({
    shard: 2,
    sql: `update relay.cursor set number = number + 1`,
    found: [`2 7 CURSOR_BEYOND_HEAD`, `2 8 SEAL_MISSING`],
  }),
  "a relay that does not move": () => ({
    shard: 2,
    // Events as old as that were sealed otherwise.
    sql: `delete from relay.seals; update relay.cursor set number = number - 1, number_before_seals = number;
          update ledger.events set occurred_at = occurred_at - interval '2 minutes'`,
    found: [`2 7 NOT_PUBLISHED`],
  }),
  "a hold that says it was captured more": ({ alice, deposit }) => ({
    shard: 1,
    sql: `update ledger.holds set captured_minor_units = captured_minor_units + 1 where hold_id = ${uuidOf(deposit)}`,
    found: [`1 3 CAPTURED_WRONG ${deposit}`, `1 3 HELD_WRONG ${alice}`],
  }),
  "a closed account with money": ({ bob }) => ({
    shard: 1,
    sql: `update ledger.accounts set status = 'CLOSED' where account_id = ${uuidOf(bob)}`,
    found: [`1 3 CLOSED_NOT_EMPTY ${bob}`],
  }),
  "a leg of another amount": ({ rent }) => ({
    shard: 2,
    sql: `update ledger.remote_legs set amount_minor_units = 31 where ${transferOf(rent)}`,
    found: [
      `1 4 LEG_UNLIKE_POSTING ${rent} 2 0`,
      `2 4 LEG_UNLIKE_POSTING ${rent} 1 0`,
      `2 4 TRANSIT_WRONG ${TRANSIT} EUR`,
      `2 7 ENTRIES_UNLIKE_POSTINGS ${rent}`,
    ],
  }),
  "a leg that was never posted": ({ carol, rent }) => ({
    shard: 2,
    sql: `update ledger.remote_legs set state = 'PREPARED' where ${transferOf(rent)}`,
    found: [
      `1 4 LEG_NOT_POSTED ${rent} 2 0`,
      `2 4 ROOM_WRONG ${carol}`,
      `2 4 ROOM_WRONG ${TRANSIT}`,
      `2 7 LEG_DIFFERS ${rent} 0 state`,
    ],
  }),
  "a leg that was released after all": ({ rent }) => ({
    shard: 2,
    sql: `update ledger.remote_legs set state = 'RELEASED' where ${transferOf(rent)}`,
    found: [`1 4 LEG_NOT_POSTED ${rent} 2 0`, `2 7 LEG_DIFFERS ${rent} 0 state`],
  }),
  "a leg that is posted twice": ({ carol, rent }) => ({
    shard: 2,
    sql:
      again(`a.account_id = ${uuidOf(carol)}`, 1) + again(`a.reference = 'system:transit' and a.currency = 'EUR'`, 1),
    found: [`2 1 POSTING_NOT_BALANCED ${rent} 0`, `2 4 TRANSIT_WRONG ${TRANSIT} EUR`, `2 7 ENTRIES_NOT_TOLD ${rent}`],
  }),
  "a lost leg": ({ rent }) => ({
    shard: 2,
    sql: `delete from ledger.remote_legs where ${transferOf(rent)}`,
    found: [`1 4 LEG_MISSING ${rent} 2 0`, `2 4 TRANSIT_WRONG ${TRANSIT} EUR`, `2 7 EVENT_WITHOUT_LEG ${rent}`],
  }),
  "a leg too many": ({ gifts }) => ({
    shard: 2,
    sql: `insert into ledger.remote_legs select transfer_id, 9, bucket, debit_account_id, credit_account_id, debit_is_here,
            credit_is_here, amount_minor_units, currency, type, memo, effective_time, 'RELEASED', prepared_at, balances, event_number
            from ledger.remote_legs where ${transferOf(gifts)}`,
    found: [
      `1 4 LEG_WITHOUT_POSTING ${gifts} 2 9`,
      `2 4 LEG_UNLIKE_POSTING ${gifts} 1 9`,
      `2 4 TRANSIT_WRONG ${TRANSIT} EUR`,
      `2 7 ENTRIES_UNLIKE_POSTINGS ${gifts}`,
      `2 7 LEG_DIFFERS ${gifts} 9 state`,
    ],
  }),
  "a leg that no event tells of": ({ carol }) => ({
    shard: 2,
    sql: `insert into ledger.remote_legs (transfer_id, posting_index, bucket, debit_account_id, credit_account_id, debit_is_here,
                                          credit_is_here, amount_minor_units, currency, type, memo, state, event_number)
          select ${uuidOf(GHOST)}, 0, 0, ${uuidOf(GHOST)}, ${uuidOf(carol)}, false, true, 1, 'EUR', 'transfer', '', 'POSTED', 1000`,
    found: [`2 7 LEG_WITHOUT_EVENT ${GHOST}`],
  }),
  "the transfer of legs, lost": ({ rent }) => ({
    shard: 1,
    sql: `delete from ledger.transfers where ${transferOf(rent)}`,
    found: [
      `1 4 DECISION_WITHOUT_TRANSFER ${rent}`,
      `1 4 TRANSIT_WRONG ${TRANSIT} EUR`,
      `1 5 KEY_WITHOUT_EFFECT service:console create_transfer`,
      `1 7 EVENT_WITHOUT_TRANSFER ${rent}`,
      `2 4 LEG_WITHOUT_TRANSFER ${rent} 1`,
    ],
  }),
  "a decision without a transfer": () => ({
    shard: 3,
    sql: `insert into ledger.decisions (transfer_id, bucket, state) values (${uuidOf(GHOST)}, 0, 'COMMITTED')`,
    found: [`3 4 DECISION_WITHOUT_TRANSFER ${GHOST}`],
  }),
  "a lost decision": ({ rent }) => ({
    shard: 1,
    sql: `delete from ledger.decisions where ${transferOf(rent)}`,
    found: [`1 4 DECISION_WRONG ${rent}`],
  }),
  "a decision against what was done": ({ rent }) => ({
    shard: 1,
    sql: `update ledger.decisions set state = 'ABORTED' where ${transferOf(rent)}`,
    found: [`1 4 DECISION_WRONG ${rent}`],
  }),
  "room that nothing needs": ({ dave }) => ({
    shard: 3,
    sql: `update ledger.accounts set prepared_credit_minor_units = 1 where account_id = ${uuidOf(dave)}`,
    found: [`3 4 ROOM_WRONG ${dave}`],
  }),
  "a quote used by another conversion": ({ conversion, lunch, quote }) => ({
    shard: 1,
    sql: `update ledger.quotes set transfer_id = ${uuidOf(lunch)} where quote_id = ${uuidOf(quote)}`,
    found: [`1 5 QUOTE_NOT_ITS_OWN ${conversion} ${quote}`, `1 5 QUOTE_WITHOUT_CONVERSION ${quote} ${lunch}`],
  }),
  "a quote that could be used again": ({ conversion, quote }) => ({
    shard: 1,
    sql: `update ledger.quotes set state = 'RESERVED' where quote_id = ${uuidOf(quote)}`,
    found: [`1 5 QUOTE_NOT_USED ${conversion} ${quote}`],
  }),
  "a lost quote": ({ conversion, quote }) => ({
    shard: 1,
    sql: `delete from ledger.quotes where quote_id = ${uuidOf(quote)}`,
    found: [`1 5 CONVERSION_WITHOUT_QUOTE ${conversion} ${quote}`],
  }),
  "a conversion at another rate": ({ conversion, quote }) => ({
    shard: 1,
    sql: `update ledger.quotes set buy_minor_units = buy_minor_units + 1 where quote_id = ${uuidOf(quote)}`,
    found: [`1 5 CONVERSION_UNLIKE_QUOTE ${conversion} ${quote}`],
  }),
  "more taken back than was credited": ({ lunch, refund }) => ({
    shard: 1,
    sql: `update ledger.transfers set postings = replace(postings::text, '"20"', '"101"')::json where ${transferOf(refund)}`,
    found: [
      `1 6 REFUNDED_TOO_MUCH ${lunch} 0`,
      `1 6 REFUNDED_WRONG ${lunch} 0`,
      `1 7 ENTRIES_UNLIKE_POSTINGS ${refund}`,
      `1 7 TRANSFER_DIFFERS ${refund} postings`,
    ],
  }),
  "a refund that was forgotten": ({ lunch }) => ({
    shard: 1,
    sql: `delete from ledger.refunded_postings where ${transferOf(lunch)}`,
    found: [`1 6 REFUNDED_WRONG ${lunch} 0`],
  }),
  "a remainder of something else": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.refunded_postings set credited_minor_units = 200 where ${transferOf(lunch)}`,
    found: [`1 6 REMAINDER_UNLIKE_POSTING ${lunch} 0`],
  }),
  "a refund of a transfer that was never made": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.refunded_postings set transfer_id = ${uuidOf(GHOST)} where ${transferOf(lunch)}`,
    found: [`1 6 REFUNDED_WRONG ${lunch} 0`, `1 6 REFUND_WITHOUT_POSTING ${GHOST} 0`],
  }),
  "a refund to somebody else": ({ alice, bob, lunch, refund }) => ({
    shard: 1,
    sql: `update ledger.transfers set postings = replace(postings::text, '["${bob}","${alice}"', '["${alice}","${bob}"')::json
           where ${transferOf(refund)}`,
    found: [
      `1 6 REVERSAL_UNLIKE_POSTING ${refund} ${lunch}`,
      `1 7 ENTRIES_UNLIKE_POSTINGS ${refund}`,
      `1 7 TRANSFER_DIFFERS ${refund} postings`,
    ],
  }),
  "a transfer that does not know that it was taken back": ({ mistake }) => ({
    shard: 1,
    sql: `update ledger.transfers set state = 'POSTED', reversed_postings = null where ${transferOf(mistake)}`,
    found: [`1 7 EVENT_WITHOUT_REVERSAL ${mistake}`, `3 6 REVERSED_NOT_TOLD ${mistake} 0`],
  }),
  "a transfer in the wrong state": ({ mistake, lunch }) => ({
    shard: 1,
    sql: `update ledger.transfers set state = 'POSTED' where ${transferOf(mistake)};
          update ledger.transfers set state = 'REVERSED' where ${transferOf(lunch)}`,
    found: [`1 6 STATE_WRONG ${lunch}`, `1 6 STATE_WRONG ${mistake}`, `1 7 EVENT_WITHOUT_REVERSAL ${mistake}`],
  }),
  "a transfer that was told a refund that never was": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.transfers set state = 'REVERSED', reversed_postings = '{0}' where ${transferOf(lunch)}`,
    found: [`1 6 TOLD_NOT_REVERSED ${lunch} 0`],
  }),
  "an altered seal": () => ({
    shard: 3,
    sql: `update relay.seals set chain_hash = sha256('x')`,
    found: [`3 8 CHAIN_BROKEN`],
  }),
};

for (const [what, plant] of Object.entries(plants)) {
  test(`${what}: is named, and nothing else`, async () => {
    const { shard, sql, found } = plant(town);
    await system.spoiled(shard, sql, async () => {
      assert.deepEqual((await findings()).toSorted(byText), found.toSorted(byText));
    });
  });
}

/** Those that a planting has shown: every reason of the page but those that other tests show. */
test("docs/check.md lists every reason, and each was planted", () => {
  const planted = Object.values(plants).flatMap((plant) =>
    plant(town)
      .found.filter((found) => !found.startsWith("8", 2))
      .map((found) => found.split(" ")[2] as string),
  );
  const page = readFileSync("docs/check.md", "utf8");
  const listed = [...page.matchAll(/^\| ((?:`[A-Z_]+`(?:, )?)+) \|/gm)].flatMap(([, names = ""]) =>
    [...names.matchAll(/[A-Z_]+/g)].map(([name]) => name as string),
  );
  assert.deepEqual([...new Set(listed)].toSorted(byText), [...new Set(planted)].toSorted(byText));
});

test("of many findings the first are told, and all are counted", async () => {
  const sql = `insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
               select 0, 'local', 'create_transfer', 'false-' || n, '', gen_random_uuid() from generate_series(1, 30) n`;
  await system.spoiled(1, sql, async () => {
    const [outcome] = await run({ only: [5], shard: 1 });
    assert.deepEqual([outcome?.findings.length, outcome?.findingCount], [MAX_FINDINGS, 30]);
  });
});

interface Run {
  readonly exitStatus: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command as an operator runs it. */
function command(shards: readonly string[], ...args: string[]): Promise<Run> {
  const env = { LEDGERMESH_AUDIT_SHARDS: shards.join(",") };
  return new Promise((resolve) => {
    execFile(process.execPath, ["cli/main.ts", "check", ...args], { env }, (error, stdout, stderr) =>
      resolve({ exitStatus: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr }),
    );
  });
}

test("the command ends with 0 when all holds, with 1 and the ids when not, for people and for programs", async () => {
  const urls = system.urlsOf("auditor");
  const good = await command(urls, "--only", "1, 2");
  assert.equal(good.exitStatus, 0, good.stdout + good.stderr);
  assert.match(good.stdout, /^OK: everything that was checked holds\. \([0-9.]+ s\)$/m);
  const { alice, snack } = town;
  const sql = `update ledger.entries set amount_minor_units = -51 where ${entry(alice, 3)}`;
  await system.spoiled(1, sql, async () => {
    const bad = await command(urls, "--shard", "1", "--only", "1,2");
    assert.equal(bad.exitStatus, 1);
    const told = `shard 1, 2: BALANCE_AFTER_WRONG: account_id ${alice}, sequence 3: expected 849; found 850`;
    assert.ok(bad.stdout.includes(`\n${told}\n`), bad.stdout);
    assert.match(bad.stdout, /^NOT OK: something is broken/m);
    const json = await command(urls, "--only", "1", "--json");
    assert.equal(json.exitStatus, 1);
    const report = JSON.parse(json.stdout);
    assert.deepEqual([report.ok, report.verdict, report.results.length], [false, "NOT_OK", 3]);
    const [first, second] = report.results;
    assert.deepEqual([first.shard, first.invariant, first.holds, first.finding_count], [1, 1, false, 2]);
    assert.deepEqual([second.shard, second.holds, second.findings], [2, true, []]);
    assert.deepEqual(first.findings, [
      { reason: "CURRENCY_NOT_ZERO", ids: { currency: "EUR" }, expected: "0", found: "-1" },
      {
        reason: "POSTING_NOT_BALANCED",
        ids: { transfer_id: snack, posting_index: "0" },
        expected: "one debit, one credit, sum 0",
        found: "1 debit, 1 credit, sum -1",
      },
    ]);
  });
});

test("what cannot be checked ends with 2 and says why, and does not stop the rest", async () => {
  const urls = system.urlsOf("auditor");
  const gone = (url: string) => url.replace(/@[^/]+/, "@127.0.0.1:1");
  const away = await command([...urls.slice(0, 2), gone(urls[2] as string)]);
  assert.equal(away.exitStatus, 2, away.stdout);
  assert.match(away.stdout, /^shard 3, 1: could not be checked: 127\.0\.0\.1:1\/\w+: connect ECONNREFUSED/m);
  assert.match(away.stdout, /^shard 1, 4: could not be checked: shard 3 cannot be asked$/m);
  assert.match(away.stdout, /│ 1 +│ 2 balances are their entries +│ [^│]+│ holds/);
  assert.doesNotMatch(away.stdout, /:s[0-9a-f]{48}@/, "no password is shown");
  const swapped = await command(urls.toReversed());
  assert.equal(swapped.exitStatus, 2);
  assert.match(swapped.stdout, /the database given as shard 1 is shard 3: mend the order/);
  for (const wrong of [
    ["--only", "9"],
    ["--shard", "4"],
  ]) {
    assert.equal((await command(urls, ...wrong)).exitStatus, 2, wrong.join(" "));
  }
});

test("slices leave nothing out, and have nothing twice", async () => {
  const [eight, thirtyTwo] = [slicesOf("id", 20_000_000), idSlicesOf(3_000_000)];
  assert.deepEqual([eight.length, thirtyTwo.length, slicesOf("id", 10).length], [8, 32, 1]);
  const ids = Array.from({ length: 500 }, () => newId("xfer", 7)).map((id) => `(${uuidOf(id)}::uuid, '${id}')`);
  const within = async (condition: string) =>
    (await postgres(1).query<{ text: string }>(`select text from (values ${ids}) i (id, text) where ${condition}`))
      .rows;
  const found = await Promise.all(eight.map(within));
  assert.ok(found.every((rows) => rows.length > 20));
  assert.equal(new Set(found.flat().map(({ text }) => text)).size, found.flat().length);
  assert.equal(found.flat().length, ids.length);
  let matched = 0;
  for (const { ofText, ofUuid } of thirtyTwo) {
    const [byText, byUuid] = [await within(ofText("text")), await within(ofUuid("id"))];
    assert.deepEqual(byText, byUuid);
    matched += byText.length;
  }
  assert.equal(matched, ids.length);
});

test("where pages of entries end makes no difference", async () => {
  const { alice, bob } = town;
  const spoilt = `
    update ledger.entries set balance_after_minor_units = balance_after_minor_units + 1 where account_id = ${uuidOf(alice)} and sequence % 3 = 0;
    delete from ledger.entries where ${entry(bob, 4)};
    update ledger.accounts set posted_minor_units = posted_minor_units + 1 where account_id = ${uuidOf(bob)};
    delete from ledger.accounts where reference = 'system:cash'`;
  const reader = openShardReader(system.urlsOf("auditor")[0] as string, 1, new AbortController().signal);
  const look = async (pageEntries?: number) => {
    const notebook = openNotebook(1, 2);
    await checkBalances(reader, notebook, () => {}, pageEntries);
    const { checked, findings: found, findingCount } = notebook.outcome();
    const told = found.map(({ reason, ids }) => [reason, ...Object.values(ids)].join(" "));
    return { checked, findingCount, told: told.toSorted(byText) };
  };
  try {
    for (const sql of ["select", spoilt]) {
      await system.spoiled(1, sql, async () => {
        const whole = await look();
        assert.equal(whole.findingCount > 0, sql === spoilt);
        for (const pageEntries of [3, 4, 5, 7, 11]) assert.deepEqual(await look(pageEntries), whole, `${pageEntries}`);
      });
    }
  } finally {
    await reader.close();
  }
});

test("what commits between two reads is no finding", async () => {
  const { rent, present } = town;
  const inFlight = `update ledger.decisions set state = 'COMMITTED' where transfer_id in (${uuidOf(rent)}, ${uuidOf(present)})`;
  const legs = `update ledger.remote_legs set state = 'PREPARED' where ${transferOf(rent)}`;
  const quote = `update ledger.quotes set state = 'RESERVED' where ${transferOf(present)}`;
  const signal = new AbortController().signal;
  const readers = system.urlsOf("auditor").map((url, index) => openShardReader(url, index + 1, signal));
  const [own] = readers as [ShardReader];
  // As soon as legs or quotes were read elsewhere, all that was in flight is done.
  const closing = readers.map((reader): ShardReader => {
    const ask: ShardReader["ask"] = async (query) => {
      const rows = await reader.ask(query);
      if (query.name !== "check-legs" && query.name !== "check-quotes") return rows as never;
      await withConnection(system.urlsOf("superuser")[0] as string, (db) =>
        db.query("update ledger.decisions set state = 'CLOSED'"),
      );
      return rows as never;
    };
    return { ...reader, ask };
  });
  const others = new Map(closing.map((reader) => [reader.shard, reader]));
  const cut = await readCut(own);
  const everywhere = (use: () => Promise<void>) =>
    [2, 3].reduce((inner, shard) => () => system.spoiled(shard, `${legs}; ${quote}`, inner), use)();
  try {
    await system.spoiled(1, `${inFlight}; ${quote}`, () =>
      everywhere(async () => {
        const notebook = openNotebook(1, 4);
        await walkLog(own, cut, openNotebook(1, 7), compareShards(own, cut, others, notebook).onPage, () => {});
        const { checked, findings: found } = notebook.outcome();
        assert.deepEqual(found, []);
        assert.ok((checked.legs ?? 0) > 0);
      }),
    );
    await system.spoiled(1, `${inFlight}; ${quote}`, () =>
      everywhere(async () => {
        const notebook = openNotebook(1, 5);
        await checkQuotes(own, cut, others, notebook);
        const { checked, findings: found } = notebook.outcome();
        assert.deepEqual([found, checked.conversions], [[], 2]);
      }),
    );
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
  }
});

/** How long the check runs beside the load, again and again. */
const LIVE_CHECKS = 3;
const CALLERS = 6;

test("a system under load holds, again and again", async () => {
  let paying = true;
  const accounts = await Promise.all(
    shardNumbers.flatMap((shard) => [1, 2].map(() => openFunded(1_000_000n, {}, shard))),
  );
  const pick = () => (accounts[Math.floor(Math.random() * accounts.length)] as Account).accountId;
  async function caller(index: number): Promise<void> {
    while (paying) {
      const [payer, payee] = [pick(), pick()];
      if (payer === payee) continue;
      if (index % 3 === 0) {
        const { response } = await hold(payer, payee, 2n);
        await capture(response.holdId, { amountMinorUnits: 1n });
        await voidHold(response.holdId);
        continue;
      }
      const { response } = await transfer(payer, payee, 2n);
      if (index % 3 === 1) await takeBackAll(response.transferId);
    }
  }
  const callers = Array.from({ length: CALLERS }, (_, index) => caller(index));
  try {
    for (let count = 0; count < LIVE_CHECKS; count += 1) {
      const { exitStatus, stdout, stderr } = await command(shardUrls(stackName, "auditor"));
      assert.equal(exitStatus, 0, stdout + stderr);
    }
  } finally {
    paying = false;
    await Promise.allSettled(callers);
  }
  await Promise.all(callers);
});

async function takeBackAll(transferId: string): Promise<void> {
  const request = ReverseTransferRequest.fromPartial({ transferId, idempotencyKey: newKey() });
  await call(ledger, ledger.reverseTransfer, request);
}
