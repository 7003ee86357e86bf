import { type Answer, call } from "#lib/grpc-client.ts";
import {
  type Account,
  CaptureHoldRequest,
  CreateHoldRequest,
  type Hold,
  type Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newKey, readAccount } from "#tests/stack.ts";

/** Holds on the running stack. All reject with a CallError. */

/** A request for a hold in EUR with a new key, unless said otherwise. */
export function holdRequest(
  debitAccountId: string,
  creditAccountId: string,
  amountMinorUnits: bigint,
  more: Partial<CreateHoldRequest> = {},
): CreateHoldRequest {
  const fixed = { debitAccountId, creditAccountId, amountMinorUnits };
  return CreateHoldRequest.fromPartial({ ...fixed, currency: "EUR", idempotencyKey: newKey(), ...more });
}

export function hold(...request: Parameters<typeof holdRequest>): Promise<Answer<Hold>> {
  return call(ledger, ledger.createHold, holdRequest(...request));
}

/** Captures with a new key; all that remains unless an amount is given. */
export function capture(holdId: string, more: Partial<CaptureHoldRequest> = {}): Promise<Answer<Transfer>> {
  return call(
    ledger,
    ledger.captureHold,
    CaptureHoldRequest.fromPartial({ holdId, idempotencyKey: newKey(), ...more }),
  );
}

export function voidHold(holdId: string, idempotencyKey = newKey()): Promise<Answer<Hold>> {
  return call(ledger, ledger.voidHold, { holdId, idempotencyKey });
}

export async function readHold(holdId: string): Promise<Hold> {
  return (await call(ledger, ledger.getHold, { holdId })).response;
}

/** Posted, held and available. */
export async function balances({ accountId }: Account): Promise<bigint[]> {
  const { postedMinorUnits, heldMinorUnits, availableMinorUnits } = await readAccount(accountId);
  return [postedMinorUnits, heldMinorUnits, availableMinorUnits];
}
