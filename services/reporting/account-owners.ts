import { errorTypeOf, isUnavailable, statusOf } from "#lib/elasticsearch.ts";
import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import { type AccountDocument, ALIASES } from "#lib/projection.ts";
import { malformed } from "#lib/refusal.ts";
import type { Context } from "#services/reporting/context.ts";
import { refusals } from "#services/reporting/refusals.ts";

/** What is remembered of accounts that were somebody's: an owner never changes. */
const MAX_REMEMBERED = 50_000;

/**
 * Whether an account is a user's, by its document. Rejects with ACCOUNT_NOT_FOUND when it is somebody else's, and with the
 * same, after the same steps, when there is none or the projection does not know it yet; with what the list itself refuses
 * when the id or x-read-after is malformed, or not reached in time.
 */
export function accountOwners(
  ctx: Pick<Context, "elasticsearch" | "checkpoints">,
): (accountId: string, userId: string, call: Call) => Promise<void> {
  const remembered = new Set<string>();
  return async (accountId, userId, call) => {
    if (parseId(accountId, "acct") === undefined) {
      throw malformed([{ field: "account_id", description: "is no account id (acct_…)" }]);
    }
    // Only the owner's own question is remembered: the time of an answer tells nobody whether an account exists.
    const key = `${userId} ${accountId}`;
    if (remembered.has(key)) return;
    if (call.readAfter !== undefined) {
      const position = decodePosition(call.readAfter);
      if (position === undefined) throw refusals.readAfterMalformed();
      await ctx.checkpoints.reached(position, call);
    }
    if ((await readOwner(ctx, accountId)) !== userId) throw refusals.accountNotFound(accountId);
    if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.values().next().value as string);
    remembered.add(key);
  };
}

/** Undefined when the account is not known. */
async function readOwner(
  { elasticsearch }: Pick<Context, "elasticsearch">,
  accountId: string,
): Promise<string | undefined> {
  try {
    const { _source } = await elasticsearch.get<AccountDocument>({
      index: ALIASES.accounts,
      id: accountId,
      _source_includes: ["owner_id"],
    });
    return _source?.owner_id;
  } catch (error) {
    if (isUnavailable(error) || errorTypeOf(error) === "index_not_found_exception") throw refusals.historyUnavailable();
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}
