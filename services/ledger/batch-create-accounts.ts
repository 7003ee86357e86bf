import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { encodePosition } from "#lib/position.ts";
import { malformed, Refusal } from "#lib/refusal.ts";
import type { BatchCreateAccountsRequest, BatchCreateAccountsResponse } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import { BATCH_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { openAccount } from "#services/ledger/create-account.ts";
import { parseAccountRequest } from "#services/ledger/parse-account.ts";

const MAX_ACCOUNTS_PER_CALL = 1_000;

let batchCalls = 0;

/**
 * The call's key covers every account: account i has the key `KEY/i`, and its fingerprint includes the whole request, so that a
 * repeated call whose list differs is refused whatever its length, as long as an owner at the same place is the same.
 */
export async function batchCreateAccounts(
  ctx: Context,
  request: BatchCreateAccountsRequest,
  call: Call,
): Promise<BatchCreateAccountsResponse> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const count = request.accounts.length;
  if (count === 0 || count > MAX_ACCOUNTS_PER_CALL) {
    throw malformed([
      { field: "accounts", description: `must hold 1 to ${MAX_ACCOUNTS_PER_CALL} accounts, not ${count}` },
    ]);
  }
  const check = new FieldCheck();
  const parsed = request.accounts.map((account, index) => {
    const path = `accounts[${index}].`;
    check.require(
      account.idempotencyKey === "",
      `${path}idempotency_key`,
      "must be empty: the call's key covers all its accounts",
    );
    return parseAccountRequest(check, path, account);
  });
  check.done();

  const whole = canonicalHash(parsed.map(({ fingerprint }) => fingerprint.toString("base64")));
  batchCalls += 1;
  const lane = { name: `${call.caller} accounts ${batchCalls}`, ordered: false };
  const settled = await Promise.allSettled(
    parsed.map((account, index) => {
      const fingerprint = canonicalHash([whole.toString("base64"), index]);
      return openAccount(ctx, { ...account, fingerprint }, call, `${idempotencyKey}/${index}`, lane, BATCH_TIMEOUT_MS);
    }),
  );
  const opened = settled.map((result, index) => {
    if (result.status === "fulfilled") return result.value;
    throw result.reason instanceof Refusal ? atIndex(result.reason, index) : result.reason;
  });
  if (opened.every(({ replayed }) => replayed)) call.markReplayed();
  call.setPosition(encodePosition(opened.map(({ position }) => position)));
  return { accounts: opened.map(({ account }) => account) };
}

/** The refusal of one account, saying which. */
function atIndex(refusal: Refusal, index: number): Refusal {
  return new Refusal(refusal.status, refusal.reason, `accounts[${index}]: ${refusal.message}`, {
    metadata: { ...refusal.metadata, index: index.toString() },
    violations: refusal.violations,
    ...(refusal.retryAfterMs === undefined ? {} : { retryAfterMs: refusal.retryAfterMs }),
  });
}
