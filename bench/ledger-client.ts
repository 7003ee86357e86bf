import type { Endpoints } from "#infra/local/stack.ts";
import { openClient } from "#lib/grpc-client.ts";
import { openTls } from "#lib/tls.ts";
import { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** The stack's ledger. */
export function openLedger(stack: Endpoints): LedgerServiceClient {
  return openClient(LedgerServiceClient, stack.ledger, openTls(stack.tls));
}
