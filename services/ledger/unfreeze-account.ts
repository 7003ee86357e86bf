import type { Call } from "#lib/grpc-server.ts";
import type { Account, UnfreezeAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { setAccountStatus } from "#services/ledger/set-account-status.ts";

export function unfreezeAccount(ctx: Context, request: UnfreezeAccountRequest, call: Call): Promise<Account> {
  return setAccountStatus(ctx, "unfreeze", request, call);
}
