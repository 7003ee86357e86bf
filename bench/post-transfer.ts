import { randomUUID } from "node:crypto";
import { AMOUNT_MINOR_UNITS, CURRENCY } from "#bench/load-request.ts";
import type { Rest } from "#bench/rest.ts";

export interface PostedTransfer {
  readonly transferId: string;
  /** For `x-read-after`. */
  readonly position: string;
}

/** Moves one minor unit by REST; answers its id and position once it is posted, and throws when it is not. */
export async function postTransfer(rest: Rest, debit: string, credit: string): Promise<PostedTransfer> {
  const posting = {
    debit_account_id: debit,
    credit_account_id: credit,
    amount_minor_units: String(AMOUNT_MINOR_UNITS),
    currency: CURRENCY,
  };
  const { status, text, position } = await rest.post("/v1/ledger/transfers", JSON.stringify({ postings: [posting] }), {
    "idempotency-key": randomUUID(),
  });
  const transfer = status === 200 ? (JSON.parse(text) as { transfer_id: string; state: string }) : undefined;
  if (transfer?.state !== "POSTED") throw new Error(`HTTP ${status}: ${text.slice(0, 300)}`);
  return { transferId: transfer.transfer_id, position };
}
