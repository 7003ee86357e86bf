import { parseId } from "#lib/ids.ts";
import type { Account } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { eventually, postgres } from "#tests/stack.ts";

/**
 * Makes a call that moves money from a payer on shard 1 to a payee on shard 2, and keeps its leg there from being posted: what
 * it prepares is locked while the decision still waits for the payer's account. Call `letGo` in any case.
 */
export async function holdUpPosting<Answer>(payer: Account, payee: Account, make: () => Promise<Answer>) {
  const [atPayer, atPayee] = [await postgres(1).connect(), await postgres(2).connect()];
  const letGo = async () => {
    await atPayee.query("rollback");
    atPayee.release();
  };
  await atPayee.query("begin");
  try {
    await atPayer.query("begin");
    await atPayer.query("select from ledger.accounts where account_id = $1 for update", [
      parseId(payer.accountId)?.uuid,
    ]);
    const answer = make();
    // It is for the caller to look at; it may come before that.
    answer.catch(() => {});
    await eventually(async () => {
      const { rows } = await atPayee.query(
        "select from ledger.remote_legs where credit_account_id = $1 and state = 'PREPARED' for update",
        [parseId(payee.accountId)?.uuid],
      );
      return rows.length > 0;
    }, "the leg is prepared");
    return { answer, letGo };
  } catch (error) {
    await letGo();
    throw error;
  } finally {
    await atPayer.query("rollback");
    atPayer.release();
  }
}
