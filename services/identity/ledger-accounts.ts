import { status } from "@grpc/grpc-js";
import { CallError, type UnaryCall } from "#lib/grpc-client.ts";
import type { Call } from "#lib/grpc-server.ts";
import { callDuring } from "#lib/service-client.ts";
import { type Account, Account_Status, type LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";

/** A user's accounts, asked of the ledger in our own name. */
const PAGE_SIZE = 500;
const MAX_PAGES = 10;
/** Of one call to the ledger; the user waits for all of them. */
const TIMEOUT_MS = 2_000;
/** The account was closed before. */
const CLOSED = "ACCOUNT_CLOSED";
const NOT_EMPTY = ["ACCOUNT_NOT_EMPTY", "ACCOUNT_HAS_HOLDS", "ACCOUNT_HAS_TRANSFERS_UNDER_WAY"];

/** All accounts of a user. Throws LEDGER_UNAVAILABLE, USER_HAS_TOO_MANY_ACCOUNTS. */
export async function accountsOf(
  { ledger }: Pick<Context, "ledger">,
  incoming: Call,
  ownerId: string,
): Promise<Account[]> {
  const accounts: Account[] = [];
  let pageToken = "";
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const request = { ownerId, reference: "", pageSize: PAGE_SIZE, pageToken };
    const { response } = await ask(incoming, ledger, ledger.listAccounts, request);
    accounts.push(...response.accounts);
    pageToken = response.nextPageToken;
    if (!response.hasMore) return accounts;
  }
  throw refusals.tooManyAccounts(PAGE_SIZE * MAX_PAGES);
}

/**
 * Closes all accounts of a user, so that no money can come to them any more. When one holds money, nothing is closed, unless it came
 * just now. Throws USER_HAS_BALANCE, LEDGER_UNAVAILABLE, USER_HAS_TOO_MANY_ACCOUNTS.
 */
export async function closeAccounts(
  ctx: Pick<Context, "ledger" | "newId">,
  incoming: Call,
  ownerId: string,
): Promise<void> {
  const open = (await accountsOf(ctx, incoming, ownerId)).filter((account) => account.status !== Account_Status.CLOSED);
  const full = open.find((account) => account.postedMinorUnits !== 0n || account.heldMinorUnits !== 0n);
  if (full !== undefined) throw refusals.userHasBalance(full.accountId);
  for (const { accountId } of open) await closeAccount(ctx, incoming, accountId);
}

async function closeAccount(
  { ledger, newId }: Pick<Context, "ledger" | "newId">,
  incoming: Call,
  accountId: string,
): Promise<void> {
  // A key of its own for each try: the ledger remembers a refusal under its key, and what stood in the way may be gone by now.
  const request = { accountId, reason: "the owner has left", idempotencyKey: newId("user", 0) };
  try {
    await ask(incoming, ledger, ledger.closeAccount, request);
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    if (error.reason === CLOSED) return;
    if (NOT_EMPTY.includes(error.reason)) throw refusals.userHasBalance(accountId);
    throw error;
  }
}

/** Throws LEDGER_UNAVAILABLE when there is no answer that says anything about the request. */
async function ask<Request, Response>(
  incoming: Call,
  client: LedgerServiceClient,
  method: UnaryCall<Request, Response>,
  request: Request,
) {
  try {
    return await callDuring(incoming, client, method, request, { as: "self", timeoutMs: TIMEOUT_MS });
  } catch (error) {
    if (error instanceof CallError && NO_ANSWER.includes(error.code)) throw refusals.ledgerUnavailable();
    throw error;
  }
}

const NO_ANSWER: readonly number[] = [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED];
