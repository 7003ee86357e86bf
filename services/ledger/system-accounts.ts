import { idToUuid } from "#lib/ids.ts";
import { systemBucketOf } from "#lib/shards.ts";
import type { AccountName } from "#services/ledger/command.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { refusals } from "#services/ledger/refusals.ts";

const OPENED_BY = "ledger";
const METHOD = "system_account";
/** Of the names that are remembered; a system has dozens, so whoever has more is looking them up anew. */
const MAX_KNOWN = 10_000;

/**
 * The account that stands for `system:NAME` in a currency on a shard; opened on first use, unbounded. Its id never changes, so
 * it is looked up once per process: who needs it meanwhile waits for the same look-up.
 */
export function systemAccount(
  ctx: Context,
  handle: ShardHandle,
  reference: string,
  currency: string,
): Promise<AccountName> {
  const name = `${reference} ${currency}`;
  const known = handle.systemAccounts.get(name);
  if (known !== undefined) return known;
  if (handle.systemAccounts.size >= MAX_KNOWN) handle.systemAccounts.clear();
  const opening = openSystemAccount(ctx, handle, reference, currency);
  handle.systemAccounts.set(name, opening);
  opening.catch(() => handle.systemAccounts.delete(name));
  return opening;
}

async function openSystemAccount(
  ctx: Context,
  handle: ShardHandle,
  reference: string,
  currency: string,
): Promise<AccountName> {
  const name = `${reference} ${currency}`;
  const shard = handle.shard.number;
  const bucket = systemBucketOf(ctx.map, shard);
  const accountId = ctx.newId("acct", bucket);
  const outcome = await handle.accounts.submit(
    {
      key: commandKey({
        bucket,
        caller: OPENED_BY,
        method: METHOD,
        key: name,
        fingerprint: canonicalHash([reference, currency]),
        resourceUuid: idToUuid(accountId),
        makes: "acct",
      }),
      accountId,
      bucket,
      ownerId: "",
      currency,
      kind: "SYSTEM",
      floorMinorUnits: undefined,
      reference,
      metadata: {},
    },
    { name: OPENED_BY, ordered: false },
    performance.now() + COMMAND_TIMEOUT_MS,
  );
  switch (outcome.kind) {
    case "opened":
    // Its key had expired.
    case "reference_used":
      return { id: outcome.accountId, uuid: idToUuid(outcome.accountId) };
    case "failed":
      throw outcome.error;
    case "refused":
      throw outcome.refusal;
    // Opening it again is harmless, and the transfer itself has not begun.
    case "unknown":
      throw refusals.shardUnavailable(shard);
  }
}
