import { malformed } from "#lib/refusal.ts";
import type { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { MAX_POSTINGS } from "#services/ledger/parse-transfer.ts";
import { SYSTEM_PREFIX } from "#services/ledger/transfer.ts";

const MAX_TRANSFERS_PER_CALL = 10_000;
/** Each may have to be opened: a call opens no more of them on a shard than a call of BatchCreateAccounts does. */
const MAX_SYSTEM_ACCOUNTS_PER_CALL = 1_000;

/** What is made or not made together: one transfer, or the members of a group. */
export type Unit = CreateTransferRequest | readonly CreateTransferRequest[];

export function isGroup(unit: Unit): unit is readonly CreateTransferRequest[] {
  return Array.isArray(unit);
}

/**
 * The units of a call, in order. Refuses what is wrong with the call as a whole; what is wrong with one transfer is that
 * one's result.
 */
export function parseBatch(items: readonly CreateTransferRequest[]): Unit[] {
  if (items.length === 0 || items.length > MAX_TRANSFERS_PER_CALL) {
    const description = `must hold 1 to ${MAX_TRANSFERS_PER_CALL} transfers, not ${items.length}`;
    throw malformed([{ field: "transfers", description }]);
  }
  refuseKeysTwice(items);
  refuseManySystemAccounts(items);
  return items.some(({ group }) => group !== "") ? unitsOf(items) : [...items];
}

function refuseKeysTwice(items: readonly CreateTransferRequest[]): void {
  const seen = new Map<string, number>();
  for (const [index, { idempotencyKey }] of items.entries()) {
    const first = seen.get(idempotencyKey);
    if (first !== undefined && idempotencyKey !== "") {
      const description = `is the same as that of transfers[${first}]: each needs its own`;
      throw malformed([{ field: `transfers[${index}].idempotency_key`, description }]);
    }
    seen.set(idempotencyKey, index);
  }
}

function refuseManySystemAccounts(items: readonly CreateTransferRequest[]): void {
  const named = new Set<string>();
  for (const { postings } of items) {
    for (const { debitAccountId, creditAccountId, currency } of postings) {
      if (debitAccountId.startsWith(SYSTEM_PREFIX)) named.add(`${debitAccountId} ${currency}`);
      if (creditAccountId.startsWith(SYSTEM_PREFIX)) named.add(`${creditAccountId} ${currency}`);
    }
  }
  if (named.size <= MAX_SYSTEM_ACCOUNTS_PER_CALL) return;
  const description = `name ${named.size} system accounts (names and currencies); a call may name ${MAX_SYSTEM_ACCOUNTS_PER_CALL}: make several calls of it`;
  throw malformed([{ field: "transfers", description }]);
}

const GROUP_PATTERN = /^[A-Za-z0-9_-]{1,40}$/;

/** Groups as one unit each. Their order among the other transfers is clear only when their members stand side by side. */
function unitsOf(items: readonly CreateTransferRequest[]): Unit[] {
  const units: Unit[] = [];
  const lastOf = new Map<string, number>();
  let members: CreateTransferRequest[] = [];
  let postings = 0;
  for (const [index, item] of items.entries()) {
    const { group } = item;
    if (group === "") {
      units.push(item);
      continue;
    }
    const field = `transfers[${index}].group`;
    if (!GROUP_PATTERN.test(group)) {
      throw malformed([{ field, description: "must be 1 to 40 characters of A-Z, a-z, 0-9, _ and -" }]);
    }
    const last = lastOf.get(group);
    if (last === undefined) {
      members = [];
      postings = 0;
      units.push(members);
    } else if (last !== index - 1) {
      const description = `has ended with transfers[${last}]: the transfers of a group must stand side by side`;
      throw malformed([{ field, description }]);
    }
    lastOf.set(group, index);
    members.push(item);
    postings += item.postings.length;
    if (postings > MAX_POSTINGS) {
      throw malformed([
        { field, description: `has ${postings} postings up to here; a group may have ${MAX_POSTINGS} in all` },
      ]);
    }
  }
  return units;
}
