import type { Call } from "#lib/grpc-server.ts";
import { encodePosition } from "#lib/position.ts";
import { Defect } from "#lib/refusal.ts";
import type { Hold } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { CommandOutcome } from "#services/ledger/command.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";
import { readHold, toHold } from "#services/ledger/get-hold.ts";
import { positionOf } from "#services/ledger/make-transfer.ts";
import { parseHoldId } from "#services/ledger/parse-hold.ts";
import { refusals } from "#services/ledger/refusals.ts";

/**
 * Answers a call that made or changed a hold: headers and message. `holdIdOf` names the hold of a key by what the key
 * holds. A replay has the hold as it is now. Throws the refusal.
 */
export async function answerHold(
  ctx: Context,
  handle: ShardHandle,
  outcome: CommandOutcome,
  call: Call,
  holdIdOf: (resourceUuid: string) => string,
): Promise<Hold> {
  const outcomeUnknown = refusals.outcomeUnknown(handle.shard.number);
  switch (outcome.kind) {
    case "done": {
      const { answer, replayed } = outcome;
      if (replayed) call.markReplayed();
      const position = positionOf(handle, outcome);
      if (position !== undefined) call.setPosition(encodePosition([position]));
      if (answer.kind === "hold") return toHold(answer.hold);
      if (answer.kind !== "resource") throw new Defect(`a hold was answered with ${answer.kind}`);
      const holdId = holdIdOf(answer.resourceUuid);
      return toHold(await readHold(ctx, parseHoldId(holdId)).catch(() => Promise.reject(outcomeUnknown)));
    }
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      throw outcomeUnknown;
    case "failed":
      throw outcome.error;
  }
}
