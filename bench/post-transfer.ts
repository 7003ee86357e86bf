import { randomUUID } from "node:crypto";
import type { Rest } from "#bench/rest.ts";

/** Moves one minor unit by REST; answers the transfer's id once it is posted, and throws when it is not. */
export async function postTransfer(rest: Rest, debit: string, credit: string, currency: string): Promise<string> {
  const posting = { debit_account_id: debit, credit_account_id: credit, amount_minor_units: "1", currency };
  const { status, text } = await rest.post("/v1/ledger/transfers", JSON.stringify({ postings: [posting] }), {
    "idempotency-key": randomUUID(),
  });
  const transfer = status === 200 ? (JSON.parse(text) as { transfer_id: string; state: string }) : undefined;
  if (transfer?.state !== "POSTED") throw new Error(`HTTP ${status}: ${text.slice(0, 300)}`);
  return transfer.transfer_id;
}
