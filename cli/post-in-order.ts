import { isPassing, type Ledger } from "#cli/ledger.ts";
import { Interrupted, Patience } from "#cli/patience.ts";
import { readDetails } from "#lib/grpc-client.ts";
import {
  type BatchCreateTransfersResponse_Result,
  type CreateTransferRequest,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** What became of a transfer for good. */
export type Outcome =
  | { readonly kind: "posted"; readonly transfer: Transfer; readonly replayed: boolean }
  | { readonly kind: "refused"; readonly reason: string; readonly message: string };

/** As many as the ledger writes in one transaction. */
const TRANSFERS_PER_CALL = 1_000;

/**
 * Posts transfers of one shard in their order: one call at a time, since only within a call the ledger keeps the order.
 * Resolves when each has its outcome; rejects with GaveUp or Interrupted between two calls.
 */
export async function postInOrder<Item>(
  ledger: Ledger,
  items: readonly Item[],
  toRequest: (item: Item) => CreateTransferRequest,
  onOutcome: (item: Item, outcome: Outcome) => void,
): Promise<void> {
  for (let start = 0; start < items.length; start += TRANSFERS_PER_CALL) {
    if (ledger.signal.aborted) throw new Interrupted("Stopped.");
    await postCall(ledger, items.slice(start, start + TRANSFERS_PER_CALL), toRequest, onOutcome);
  }
}

async function postCall<Item>(
  ledger: Ledger,
  items: readonly Item[],
  toRequest: (item: Item) => CreateTransferRequest,
  onOutcome: (item: Item, outcome: Outcome) => void,
): Promise<void> {
  const patience = new Patience(ledger.signal, ledger.onWait);
  let open = items;
  for (;;) {
    const results = await ledger.createTransfers(open.map(toRequest));
    const unanswered: Item[] = [];
    let reason = "";
    for (const [index, item] of open.entries()) {
      const outcome = outcomeOf(results[index]);
      if (outcome.kind === "open") {
        unanswered.push(item);
        reason = outcome.reason;
      } else onOutcome(item, outcome);
    }
    if (unanswered.length === 0) return;
    open = unanswered;
    await patience.wait(reason);
  }
}

function outcomeOf(
  result: BatchCreateTransfersResponse_Result | undefined,
): Outcome | { readonly kind: "open"; readonly reason: string } {
  const outcome = result?.outcome;
  if (result === undefined || outcome === undefined) throw new Error("the ledger answered with a result too few");
  switch (outcome.$case) {
    case "transfer":
      if (outcome.value.state === Transfer_State.PROCESSING) {
        return { kind: "open", reason: "The outcome of a transfer is not known yet." };
      }
      return { kind: "posted", transfer: outcome.value, replayed: result.replayed };
    case "error": {
      const { code, message } = outcome.value;
      if (isPassing(code)) return { kind: "open", reason: message };
      return { kind: "refused", reason: readDetails(outcome.value).info?.reason ?? "", message };
    }
  }
}
