import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { Defect } from "#lib/refusal.ts";
import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import type { AbortTransferCommand, CloseDecisionCommand } from "#services/ledger/command.ts";

/** The payer's shard on transfers with legs elsewhere: the states are at the top of `Decision` in batch.ts. */

/** What was decided; when nothing was, it is decided now that the transfer will never happen. */
export function abortTransfer({ transferId }: AbortTransferCommand, batch: Batch): Evaluation {
  const decision = batch.decisions.get(transferId);
  if (decision === undefined) {
    const transferUuid = idToUuid(transferId);
    const bucket = bucketOfUuid(transferUuid);
    batch.decisions.set(transferId, { transferUuid, bucket, state: "ABORTED", row: "new" });
  }
  const committed = decision !== undefined && decision.state !== "ABORTED";
  return { kind: "done", answer: { kind: "decision", committed }, event: undefined };
}

/** Every leg is posted. Harmless when it is done twice. */
export function closeDecision({ transferId }: CloseDecisionCommand, batch: Batch): Evaluation {
  const decision = batch.decisions.get(transferId);
  if (decision === undefined || decision.state === "ABORTED") {
    throw new Defect(`${transferId} is posted on other shards without a decision to commit it`);
  }
  if (decision.state === "COMMITTED") {
    decision.state = "CLOSED";
    // A row of this same batch is written with its last state.
    if (decision.row === "unchanged") decision.row = "changed";
  }
  return { kind: "done", answer: { kind: "none" }, event: undefined };
}
