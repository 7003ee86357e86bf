import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ALL_INVARIANTS, check } from "#cli/check.ts";
import { type ScratchSystem, scratchSystem } from "#tests/scratch-system.ts";
import { buildTown, type Town, uuidOf } from "#tests/scratch-town.ts";
import { newId } from "#tests/stack.ts";

/**
 * The check on a little system of its own, made by a ledger that was stopped: copies of its shards are spoiled in every way
 * we could think of, one at a time, and exactly what was spoiled must be named.
 */
let system: ScratchSystem;
let town: Town;
before(async () => {
  system = await scratchSystem();
  town = await buildTown(system);
});
after(() => system.drop());

const UNKNOWN_IDS: ReadonlySet<string> = new Set(["bucket", "key", "keys", "resource_id"]);

async function findings(urls: readonly string[]): Promise<string[]> {
  const { outcomes } = await check({
    shards: urls,
    shard: undefined,
    only: ALL_INVARIANTS,
    signal: new AbortController().signal,
    screen: { write: () => true },
  });
  return outcomes.flatMap(({ shard, invariant, findings: found, impossible }) => [
    ...found.map(({ reason, ids }) => {
      // Which number an event got is not known here, nor what the keys were.
      const rest = Object.entries(ids).filter(([name]) => !UNKNOWN_IDS.has(name) && !name.endsWith("event_number"));
      return [shard, invariant, reason, ...rest.map(([, id]) => id)].join(" ");
    }),
    ...(impossible === undefined ? [] : [`${shard} ${invariant} impossible: ${impossible}`]),
  ]);
}

test("what nobody has touched holds", async () => {
  assert.deepEqual(await findings(system.urlsOf("auditor")), []);
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
  "the newest entry of an account, lost": ({ dave, gifts }) => ({
    shard: 3,
    sql: `delete from ledger.entries where ${entry(dave, 1)}`,
    found: [
      `3 1 CURRENCY_NOT_ZERO EUR`,
      `3 1 POSTING_NOT_BALANCED ${gifts} 2`,
      `3 2 BALANCE_WRONG ${dave}`,
      `3 2 ENTRY_MISSING ${dave} 1`,
      `3 7 ENTRY_MISSING ${gifts} ${dave} 1`,
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
    sql: `update ledger.accounts set entry_sequence = 2 where account_id = ${uuidOf(dave)}`,
    found: [`3 2 ENTRY_MISSING ${dave} 2`],
  }),
  "an account that says it has fewer entries": ({ dave }) => ({
    shard: 3,
    sql: `update ledger.accounts set entry_sequence = 0 where account_id = ${uuidOf(dave)}`,
    found: [`3 2 ENTRY_BEYOND_ACCOUNT ${dave} 1`],
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
      `3 2 ENTRY_WITHOUT_ACCOUNT ${dave} 1`,
      `3 5 KEY_WITHOUT_EFFECT local create_account`,
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
    found: [`1 5 KEY_WITHOUT_EFFECT local create_account`],
  }),
  "a refused command that was done": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.idempotency_keys set refusal = '{}' where ${keyOf(lunch)}`,
    found: [`1 5 REFUSED_WITH_EFFECT local create_transfer`],
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
  "a lost transfer": ({ lunch }) => ({
    shard: 1,
    sql: `delete from ledger.transfers where ${transferOf(lunch)}`,
    found: [`1 5 KEY_WITHOUT_EFFECT local create_transfer`, `1 7 EVENT_WITHOUT_TRANSFER ${lunch}`],
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
  "an altered transfer": ({ lunch }) => ({
    shard: 1,
    sql: `update ledger.transfers set memo = 'breakfast', postings = replace(postings::text, '"100"', '"101"')::json
           where ${transferOf(lunch)}`,
    found: [
      `1 7 ENTRIES_UNLIKE_POSTINGS ${lunch}`,
      `1 7 TRANSFER_DIFFERS ${lunch} memo`,
      `1 7 TRANSFER_DIFFERS ${lunch} postings`,
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
    sql: `update relay.cursor set number = number - 1`,
    found: [`2 7 NOT_PUBLISHED`],
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
    const { urls, drop } = await system.spoil(shard, sql);
    try {
      assert.deepEqual((await findings(urls)).toSorted(byText), found.toSorted(byText));
    } finally {
      await drop();
    }
  });
}
