import { Pool } from "pg";
import { endpoints } from "#infra/local/endpoints.ts";
import { isStackName } from "#infra/local/ports.ts";
import { readState } from "#infra/local/state.ts";
import { type Answer, call, openClient } from "#lib/grpc-client.ts";
import { idGenerator } from "#lib/ids.ts";
import { evenBucketRanges } from "#lib/shards.ts";
import { openTls } from "#lib/tls.ts";
import { IdentityServiceClient } from "#proto/ledgermesh/identity/v1/identity.ts";
import {
  type Account,
  Account_Kind,
  CreateAccountRequest,
  CreateTransferRequest,
  LedgerServiceClient,
  type Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { HistoryServiceClient } from "#proto/ledgermesh/reporting/v1/history.ts";
import { testStackName } from "#tests/config.ts";
import { eventually } from "#tests/eventually.ts";

export { eventually };

/** What tests need of the running stack. Connections are opened on first use and end with the test's process. */

const name = testStackName();
if (!isStackName(name)) throw new Error(`there is no stack ${name}`);
export const stackName = name;
export const stack = endpoints(name);
export const restUrl = stack.gateway;

/** The certificate of this machine's tests. */
export const consoleTls = openTls(stack.tls);
export const ledger = openClient(LedgerServiceClient, stack.ledger, consoleTls);
export const history = openClient(HistoryServiceClient, stack.reporting, consoleTls);
export const identity = openClient(IdentityServiceClient, stack.identity, consoleTls);
export const newId = idGenerator(Date.now);

const shards = stack.shards.map((connectionString) => {
  const pool = new Pool({ connectionString, max: 4, allowExitOnIdle: true });
  // Tests kill Postgres; the pool opens new connections by itself.
  pool.on("error", () => {});
  return pool;
});

/** 1, 2 and so on, as many as the stack has. */
export const shardNumbers = stack.shards.map((_, index) => index + 1);

/** Postgres of a shard (1, 2, …) as superuser. */
export function postgres(shard: number): Pool {
  const pool = shards[shard - 1];
  if (pool === undefined) throw new Error(`there is no shard ${shard}`);
  return pool;
}

/** An idempotency key that nobody else has. */
export function newKey(): string {
  return newId("xfer", 0);
}

const ranges = evenBucketRanges(stack.shards.length);

/** A new owner whose things are on a shard (1, 2, …). */
export function newOwner(shard = 1): string {
  const range = ranges.find((candidate) => candidate.shard === shard);
  if (range === undefined) throw new Error(`there is no shard ${shard}`);
  return newId("user", range.firstBucket + Math.floor(Math.random() * (range.lastBucket - range.firstBucket + 1)));
}

/** Opens an account: a EUR wallet of a new owner on shard 1, unless said otherwise. */
export async function openAccount(request: Partial<CreateAccountRequest> = {}, shard = 1): Promise<Account> {
  const full = CreateAccountRequest.fromPartial({
    ownerId: newOwner(shard),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
    ...request,
  });
  return (await call(ledger, ledger.createAccount, full)).response;
}

/** Opens an account and puts money on it from `system:cash`. */
export async function openFunded(
  amountMinorUnits: bigint,
  request: Partial<CreateAccountRequest> = {},
  shard = 1,
): Promise<Account> {
  const account = await openAccount(request, shard);
  await transfer("system:cash", account.accountId, amountMinorUnits, { currency: account.currency });
  return account;
}

/** A transfer request of one posting. */
export function transferRequest(
  debitAccountId: string,
  creditAccountId: string,
  amountMinorUnits: bigint,
  more: { currency?: string; idempotencyKey?: string } & Partial<Omit<CreateTransferRequest, "postings">> = {},
): CreateTransferRequest {
  const { currency = "EUR", ...rest } = more;
  return CreateTransferRequest.fromPartial({
    postings: [{ debitAccountId, creditAccountId, amountMinorUnits, currency }],
    idempotencyKey: newKey(),
    ...rest,
  });
}

/** Makes a transfer of one posting. Rejects with a CallError. */
export function transfer(
  debitAccountId: string,
  creditAccountId: string,
  amountMinorUnits: bigint,
  more: Parameters<typeof transferRequest>[3] = {},
): Promise<Answer<Transfer>> {
  return call(ledger, ledger.createTransfer, transferRequest(debitAccountId, creditAccountId, amountMinorUnits, more));
}

/** Freezes, unfreezes or closes an account. Rejects with a CallError. */
export function setStatus(change: "freeze" | "unfreeze" | "close", accountId: string): Promise<Answer<Account>> {
  const method = { freeze: ledger.freezeAccount, unfreeze: ledger.unfreezeAccount, close: ledger.closeAccount }[change];
  return call(ledger, method, { accountId, reason: "", idempotencyKey: newKey() });
}

/** The account as the ledger has it now. */
export async function readAccount(accountId: string): Promise<Account> {
  return (await call(ledger, ledger.getAccount, { accountId })).response;
}

/** The posted balance of an account as the ledger has it now, in minor units. */
export async function posted({ accountId }: { readonly accountId: string }): Promise<bigint> {
  return (await readAccount(accountId)).postedMinorUnits;
}

/** The process of a part of the stack (`ledger`, `postgres-1`, `nats`, …). */
export function pidOf(part: string): number {
  const record = readState(stackName)?.parts.find((candidate) => candidate.name === part);
  if (record?.process === undefined) throw new Error(`${part} has no process`);
  return record.process.pid;
}

/** Ends a part as a crash would, and resolves when the launcher has started it again. */
export async function kill9(part: string): Promise<void> {
  const before = pidOf(part);
  process.kill(before, "SIGKILL");
  await eventually(
    () => {
      const record = readState(stackName)?.parts.find((candidate) => candidate.name === part);
      return record?.state === "ready" && record.process?.pid !== before;
    },
    `${part} is back`,
    90_000,
  );
}
