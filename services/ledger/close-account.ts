import type { Call } from "#lib/grpc-server.ts";
import type { Account, CloseAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { setAccountStatus } from "#services/ledger/set-account-status.ts";

export function closeAccount(ctx: Context, request: CloseAccountRequest, call: Call): Promise<Account> {
  return setAccountStatus(ctx, "close", request, call);
}
