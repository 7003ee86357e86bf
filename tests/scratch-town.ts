import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { createLogger } from "#lib/log.ts";
import {
  type Account,
  Account_Kind,
  CaptureHoldRequest,
  CreateAccountRequest,
  CreateTransferRequest,
  type LedgerServiceClient,
  ReverseTransferRequest,
  type Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { openSealer } from "#services/relay/seal-events.ts";
import { holdRequest } from "#tests/holds.ts";
import { startLedger } from "#tests/ledger-process.ts";
import { withConnection } from "#tests/scratch-database.ts";
import type { ScratchSystem } from "#tests/scratch-system.ts";
import { freePort } from "#tests/service-process.ts";
import { eventually, newKey, newOwner, transferRequest } from "#tests/stack.ts";

/** A little of everything that a ledger can do, on a system of a test's own. Ids as the API has them. */
export interface Town {
  /** On shard 1. Her entries: 1,000 in; 100 and 50 to bob; 10 from bob; 30 to carol; 5 to carol, 3 to bob and 7 to dave; 20 of the 100 back; 15 of a hold to bob. */
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
  const back = ReverseTransferRequest.fromPartial({
    transferId: lunch.transferId,
    postings: [{ index: 0, amountMinorUnits: 20n }],
    idempotencyKey: newKey(),
  });
  const { response: reversal } = await call(client, client.reverseTransfer, back);
  const refund = reversal.reversals[0]?.outcome;
  if (refund?.$case !== "transfer") throw new Error("the lunch was not taken back");
  const { response: deposit } = await call(client, client.createHold, holdRequest(alice, bob, 40n));
  const part = { holdId: deposit.holdId, amountMinorUnits: 15n, idempotencyKey: newKey() };
  await call(client, client.captureHold, CaptureHoldRequest.fromPartial(part));

  const urls = system.urlsOf("superuser");
  await eventually(() => atRest(urls), "nothing is under way between the shards");
  ledger.signal("SIGKILL");
  for (const [index, url] of urls.entries()) await sealAll(url, index + 1);
  return {
    alice,
    bob,
    carol,
    dave,
    lunch: lunch.transferId,
    snack: snack.transferId,
    rent: rent.transferId,
    gifts: gifts.transferId,
    refund: refund.value.transferId,
    deposit: deposit.holdId,
  };
}

async function open(client: LedgerServiceClient, shard: number): Promise<string> {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newOwner(shard),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  return ((await call(client, client.createAccount, request)).response as Account).accountId;
}

async function make(client: LedgerServiceClient, request: CreateTransferRequest): Promise<Transfer> {
  return (await call(client, client.createTransfer, request)).response;
}

async function atRest(urls: readonly string[]): Promise<boolean> {
  const open = await Promise.all(
    urls.map((url) =>
      withConnection(url, async (db) => {
        const { rowCount } = await db.query(
          `select from ledger.decisions where state = 'COMMITTED' union all select from ledger.remote_legs where state = 'PREPARED'`,
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
