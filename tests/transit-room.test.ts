import assert from "node:assert/strict";
import { test } from "node:test";
import type { Account } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { eventually, newKey, openAccount, postgres, readAccount, transfer } from "#tests/stack.ts";

/** More than half of what a balance may be, so that a transit account has room for one of them. */
const HUGE = 5n * 10n ** 18n;
/** Of this test alone: its transit accounts begin empty. */
const currency = "XOF";

test("what a transit account cannot hold is refused before it is decided, and never stuck behind it", async () => {
  const payers = await Promise.all([1, 3].map((shard) => openAccount({ currency }, shard)));
  const payee = await openAccount({ currency }, 2);
  const second = await openAccount({ currency }, 2);
  for (const { accountId } of payers) {
    await transfer(`system:vault_${newKey().slice(5)}`, accountId, HUGE, { currency });
  }
  const pay = (payer: Account, credit: Account, amount: bigint) =>
    transfer(payer.accountId, credit.accountId, amount, { currency });
  const [first, third] = payers as [Account, Account];
  // At once: both would have been prepared, decided, and one of them never posted.
  const results = await Promise.allSettled([pay(first, payee, HUGE), pay(third, second, HUGE)]);
  const [refused, ...others] = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  assert.deepEqual([refused?.code, refused?.reason, others.length], [9, "BALANCE_OVERFLOW", 0]);
  const balances = async () => {
    const accounts = await Promise.all([...payers, payee, second].map(({ accountId }) => readAccount(accountId)));
    return accounts.map(({ postedMinorUnits }) => postedMinorUnits).sort();
  };
  assert.deepEqual(await balances(), [0n, 0n, HUGE, HUGE], "the refused payer has its money");

  await eventually(async () => {
    const { rows } = await postgres(2).query(
      `select from ledger.accounts where currency = $1
          and (prepared_debit_minor_units <> 0 or prepared_credit_minor_units <> 0)`,
      [currency],
    );
    return rows.length === 0;
  }, "what was refused keeps no room");
  // Back again, so that the way is free for others.
  const [full, from] = results[0]?.status === "fulfilled" ? [payee, first] : [second, third];
  await pay(full, from, HUGE);
  await assertInvariants();
});
