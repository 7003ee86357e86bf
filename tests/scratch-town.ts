import { freePort } from "#infra/local/free-port.ts";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { createLogger } from "#lib/log.ts";
import {
  type Account,
  Account_Kind,
  CaptureHoldRequest,
  CreateAccountRequest,
  CreateConversionRequest,
  CreateQuoteRequest,
  CreateTransferRequest,
  type LedgerServiceClient,
  ReverseTransferRequest,
  SetRatesRequest,
  type Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { openSealer } from "#services/relay/seal-events.ts";
import { holdRequest } from "#tests/holds.ts";
import { startLedger } from "#tests/ledger-process.ts";
import { withConnection } from "#tests/scratch-database.ts";
import type { ScratchSystem } from "#tests/scratch-system.ts";
import { eventually, newKey, newOwner, transferRequest } from "#tests/stack.ts";

/** A little of everything that a ledger can do, on a system of a test's own. Ids as the API has them. */
export interface Town {
  /** On shard 1. Her entries: 1,000 in; 100 and 50 to bob; 10 from bob; 30 to carol; 5 to carol, 3 to bob and 7 to dave; 20 of
   * the 100 back; 15 of a hold to bob; 9 to dave, and back; 100 and 50 exchanged. */
  readonly alice: string;
  readonly bob: string;
  /** On shard 2. */
  readonly carol: string;
  /** On shard 3. */
  readonly dave: string;
  /** 100 from alice to bob, of which 20 were taken back. */
  readonly lunch: string;
  /** 50 from alice to bob. */
  readonly snack: string;
  /** 30 from alice to carol. */
  readonly rent: string;
  /** 5 from alice to carol, 3 to bob, 7 to dave, in one. */
  readonly gifts: string;
  /** Takes 20 of lunch back. */
  readonly refund: string;
  /** Of 40 from alice to bob; 15 are captured, and 25 open. */
  readonly deposit: string;
  /** 9 from alice to dave, and wholly taken back by `back`. */
  readonly mistake: string;
  readonly back: string;
  /** Of 100 EUR of alice into dollars of her own, and its quote, which is on shard 1 too. */
  readonly conversion: string;
  readonly quote: string;
  /** Of 50 EUR of alice into dollars of carol. */
  readonly present: string;
}

const quiet = createLogger("test");
quiet.level = "silent";

/** Makes the town with a ledger of its own and stops it, and does once what a relay would do. */
export async function buildTown(system: ScratchSystem): Promise<Town> {
  const ledger = await startLedger(await freePort(), system.urlsOf("ledger"));
  const { client } = ledger;
  const [alice, bob, carol, dave] = await Promise.all([
    open(client, 1),
    open(client, 1),
    open(client, 2),
    open(client, 3),
  ]);
  const pay = (...request: Parameters<typeof transferRequest>) => make(client, transferRequest(...request));
  await pay("system:cash", alice, 1_000n);
  const lunch = await pay(alice, bob, 100n);
  const snack = await pay(alice, bob, 50n);
  await pay(bob, alice, 10n);
  const rent = await pay(alice, carol, 30n);
  const posting = (creditAccountId: string, amountMinorUnits: bigint) => ({
    debitAccountId: alice,
    creditAccountId,
    amountMinorUnits,
    currency: "EUR",
  });
  const postings = [posting(carol, 5n), posting(bob, 3n), posting(dave, 7n)];
  const gifts = await make(client, CreateTransferRequest.fromPartial({ postings, idempotencyKey: newKey() }));
  await pay("system:cash", carol, 20n);
  await pay(bob, alice, 10_000n).catch(() => {});
  const refund = await takeBack(client, lunch, [{ index: 0, amountMinorUnits: 20n }]);
  const { response: deposit } = await call(client, client.createHold, holdRequest(alice, bob, 40n));
  const part = { holdId: deposit.holdId, amountMinorUnits: 15n, idempotencyKey: newKey() };
  await call(client, client.captureHold, CaptureHoldRequest.fromPartial(part));
  const mistake = await pay(alice, dave, 9n);
  const back = await takeBack(client, mistake, []);
  const rate = { base: "EUR", quote: "USD", rate: "1.25", asOf: new Date() };
  await call(client, client.setRates, SetRatesRequest.fromPartial({ rates: [rate], idempotencyKey: newKey() }));
  const quote = await promise(client, 100n, alice);
  const conversion = await exchange(client, quote, alice, await open(client, 1, "USD"));
  const present = await exchange(client, await promise(client, 50n, ""), alice, await open(client, 2, "USD"));

  const urls = system.urlsOf("superuser");
  await eventually(() => atRest(urls), "nothing is under way between the shards");
  ledger.signal("SIGKILL");
  for (const [index, url] of urls.entries()) await sealAll(url, index + 1);
  await system.keep();
  return {
    alice,
    bob,
    carol,
    dave,
    lunch: lunch.transferId,
    snack: snack.transferId,
    rent: rent.transferId,
    gifts: gifts.transferId,
    refund: refund.transferId,
    deposit: deposit.holdId,
    mistake: mistake.transferId,
    back: back.transferId,
    conversion: conversion.transferId,
    quote,
    present: present.transferId,
  };
}

async function open(client: LedgerServiceClient, shard: number, currency = "EUR"): Promise<string> {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newOwner(shard),
    currency,
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  return ((await call(client, client.createAccount, request)).response as Account).accountId;
}

async function make(client: LedgerServiceClient, request: CreateTransferRequest): Promise<Transfer> {
  return (await call(client, client.createTransfer, request)).response;
}

async function takeBack(
  client: LedgerServiceClient,
  { transferId }: Transfer,
  postings: { index: number; amountMinorUnits: bigint }[],
): Promise<Transfer> {
  const request = ReverseTransferRequest.fromPartial({ transferId, postings, idempotencyKey: newKey() });
  const { response } = await call(client, client.reverseTransfer, request);
  const outcome = response.reversals[0]?.outcome;
  if (outcome?.$case !== "transfer") throw new Error(`${transferId} was not taken back`);
  return outcome.value;
}

async function promise(client: LedgerServiceClient, amount: bigint, debitAccountId: string): Promise<string> {
  const request = { sellCurrency: "EUR", buyCurrency: "USD", debitAccountId, idempotencyKey: newKey() };
  const full = CreateQuoteRequest.fromPartial({ ...request, amount: { $case: "sellMinorUnits", value: amount } });
  return (await call(client, client.createQuote, full)).response.quoteId;
}

async function exchange(
  client: LedgerServiceClient,
  quoteId: string,
  debitAccountId: string,
  creditAccountId: string,
): Promise<Transfer> {
  const request = { quoteId, debitAccountId, creditAccountId, idempotencyKey: newKey() };
  return (await call(client, client.createConversion, CreateConversionRequest.fromPartial(request))).response;
}

async function atRest(urls: readonly string[]): Promise<boolean> {
  const open = await Promise.all(
    urls.map((url) =>
      withConnection(url, async (db) => {
        const { rowCount } = await db.query(
          `select from ledger.decisions where state = 'COMMITTED' union all
           select from ledger.remote_legs where state = 'PREPARED' union all
           select from ledger.refunded_postings where state = 'EXHAUSTED'`,
        );
        return rowCount;
      }),
    ),
  );
  return open.every((count) => count === 0);
}

/** Everything is published and sealed. */
async function sealAll(url: string, shard: number): Promise<void> {
  await withConnection(url, async (db) => {
    await (await openSealer(db, shard, quiet)).sealNext();
    await db.query("update relay.cursor set number = (select sequence from ledger.shard_head)");
  });
}

/** The UUID in an id, quoted for SQL. */
export function uuidOf(id: string): string {
  return `'${parseId(id)?.uuid}'`;
}
