import type { Call } from "#lib/grpc-server.ts";
import type { Account, FreezeAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { setAccountStatus } from "#services/ledger/set-account-status.ts";

export function freezeAccount(ctx: Context, request: FreezeAccountRequest, call: Call): Promise<Account> {
  return setAccountStatus(ctx, "freeze", request, call);
}
