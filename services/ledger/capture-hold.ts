import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { bucketOfUuid } from "#lib/ids.ts";
import type { CaptureHoldRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountName } from "#services/ledger/command.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { prepareElsewhere } from "#services/ledger/cross-shard.ts";
import { readHold } from "#services/ledger/get-hold.ts";
import { remainingOf } from "#services/ledger/hold.ts";
import {
  answerTransfer,
  type MadeTransfer,
  prepareTransfer,
  submitTransfer,
  type TransferOrder,
} from "#services/ledger/make-transfer.ts";
import { type ParsedCapture, parseCapture } from "#services/ledger/parse-hold.ts";
import type { ParsedAccount } from "#services/ledger/parse-transfer.ts";
import { HOLD_CONTENDED, refusals } from "#services/ledger/refusals.ts";

const METHOD = "capture_hold";
/** A capture of all that is left is tried again when others captured in part meanwhile. */
const MAX_TRIES = 5;

export async function captureHold(ctx: Context, request: CaptureHoldRequest, call: Call): Promise<Transfer> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const capture = parseCapture(request);

  const deadlineMs = performance.now() + COMMAND_TIMEOUT_MS;
  for (let tries = 1; ; tries += 1) {
    const made = await makeCapture(ctx, capture, {
      caller: call.caller,
      method: METHOD,
      idempotencyKey,
      lane: { name: call.caller, ordered: false },
      timeoutMs: deadlineMs - performance.now(),
    });
    if (tries === MAX_TRIES || !isContended(made)) return answerTransfer(made, call);
  }
}

/** The hold is read for its accounts, which never change, and for what is left, which is checked again under its lock. */
async function makeCapture(
  ctx: Context,
  { hold: named, amountMinorUnits, final, type, memo, metadata, fingerprint }: ParsedCapture,
  order: Omit<TransferOrder, "parsed" | "links" | "capture">,
): Promise<MadeTransfer> {
  const hold = await readHold(ctx, named);
  const { holdId, debit, credit, currency } = hold;
  const remaining = remainingOf(hold);
  const amount = amountMinorUnits ?? remaining;
  const posting = { debit: toParsed(debit), credit: toParsed(credit), amountMinorUnits: amount, currency };
  const prepared = await prepareTransfer(ctx, {
    ...order,
    parsed: { postings: [posting], type, memo, metadata, effectiveTimeMs: undefined, fingerprint },
    links: { holdId },
    capture: { holdId, isRest: amountMinorUnits === undefined, final },
  });
  // What is left never rises: then no other shard needs to be asked. Under its lock the hold says why, unless the key
  // has its answer already.
  if (amount === 0n || amount > remaining) {
    const refusal = refusals.captureExceedsHold(holdId, remaining, amount);
    return submitTransfer(ctx, { ...prepared, remotes: [] }, { refusal, remembered: false });
  }
  return submitTransfer(ctx, prepared, await prepareElsewhere(prepared));
}

function toParsed({ id, uuid }: AccountName): ParsedAccount {
  return { kind: "account", id, uuid, bucket: bucketOfUuid(uuid) };
}

function isContended({ outcome }: MadeTransfer): boolean {
  return outcome.kind === "refused" && outcome.refusal.reason === HOLD_CONTENDED;
}
