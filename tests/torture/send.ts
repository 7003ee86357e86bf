import { CallError, call, openClient, readDetails } from "#lib/grpc-client.ts";
import {
  type BatchCreateTransfersResponse_Result,
  LedgerServiceClient,
  type ReverseTransferResponse_Result,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { consoleTls } from "#tests/stack.ts";
import type { Answer, Command, History } from "#tests/torture/history.ts";
import type { Order } from "#tests/torture/orders.ts";

/** One call of a client to one ledger process, and what its answer means. */

export interface LedgerClient {
  readonly name: string;
  readonly client: LedgerServiceClient;
}

const CALL_DEADLINE_MS = 6_000;
const BATCH_DEADLINE_MS = 15_000;
const FAILED_PRECONDITION = 9;
const RESOURCE_EXHAUSTED = 8;
const UNAVAILABLE = 14;
const INTERNAL = "INTERNAL";
const REJECTIONS: readonly number[] = [3, 5, 6];

/** A client that looks for a killed ledger often enough. */
export function openLedger(name: string, address: string): LedgerClient {
  const client = openClient(LedgerServiceClient, address, consoleTls, {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
  });
  return { name, client };
}

/** Sends commands in one call, and notes what became of each. Never rejects for what a ledger may answer. */
export async function send(history: History, ledger: LedgerClient, commands: readonly Command[]): Promise<void> {
  const startedAtMs = Date.now();
  const answers =
    commands.length === 1 ? [await single(ledger, commands[0] as Command)] : await batch(ledger, commands);
  const endedAtMs = Date.now();
  for (const [index, command] of commands.entries()) {
    const answer = answers[index] ?? { kind: "defect", reason: "the answer to the batch has fewer results" };
    history.note(command, { ledger: ledger.name, startedAtMs, endedAtMs, answer });
  }
}

async function single({ client }: LedgerClient, { order }: Command): Promise<Answer> {
  try {
    return await sendOrder(client, order);
  } catch (error) {
    return ofCallError(error);
  }
}

/** One call; rejects with a CallError. */
async function sendOrder(client: LedgerServiceClient, order: Order): Promise<Answer> {
  switch (order.rpc) {
    case "createTransfer": {
      const { response, replayed } = await call(client, client.createTransfer, order.request, {}, CALL_DEADLINE_MS);
      return toAnswer(response, replayed);
    }
    case "captureHold": {
      const { response, replayed } = await call(client, client.captureHold, order.request, {}, CALL_DEADLINE_MS);
      return toAnswer(response, replayed);
    }
    case "createConversion": {
      const { response, replayed } = await call(client, client.createConversion, order.request, {}, CALL_DEADLINE_MS);
      return toAnswer(response, replayed);
    }
    case "reverseTransfer": {
      const { response } = await call(client, client.reverseTransfer, order.request, {}, CALL_DEADLINE_MS);
      const [result, ...others] = response.reversals.map(toResult);
      // The orders are for postings of one account.
      if (result === undefined || others.length > 0) return { kind: "defect", reason: "not exactly one reversal" };
      return result;
    }
    case "createHold": {
      const { response, replayed } = await call(client, client.createHold, order.request, {}, CALL_DEADLINE_MS);
      return { kind: "changed", resourceId: response.holdId, replayed };
    }
    case "voidHold": {
      const { response, replayed } = await call(client, client.voidHold, order.request, {}, CALL_DEADLINE_MS);
      return { kind: "changed", resourceId: response.holdId, replayed };
    }
    case "createQuote": {
      const { response, replayed } = await call(client, client.createQuote, order.request, {}, CALL_DEADLINE_MS);
      return { kind: "changed", resourceId: response.quoteId, replayed };
    }
    case "freezeAccount": {
      const { response, replayed } = await call(client, client.freezeAccount, order.request, {}, CALL_DEADLINE_MS);
      return { kind: "changed", resourceId: response.accountId, replayed };
    }
    case "unfreezeAccount": {
      const { response, replayed } = await call(client, client.unfreezeAccount, order.request, {}, CALL_DEADLINE_MS);
      return { kind: "changed", resourceId: response.accountId, replayed };
    }
  }
}

async function batch({ client }: LedgerClient, commands: readonly Command[]): Promise<Answer[]> {
  try {
    const transfers = commands.flatMap(({ order }) => (order.rpc === "createTransfer" ? [order.request] : []));
    const { response } = await call(client, client.batchCreateTransfers, { transfers }, {}, BATCH_DEADLINE_MS);
    return response.results.map(toResult);
  } catch (error) {
    const answer = ofCallError(error);
    return commands.map(() => answer);
  }
}

/** What became of one of several. */
function toResult({ outcome, replayed }: BatchCreateTransfersResponse_Result | ReverseTransferResponse_Result): Answer {
  if (outcome?.$case === "transfer") return toAnswer(outcome.value, replayed);
  const status = outcome?.value;
  return ofError(status?.code ?? 0, readDetails(status).info?.reason ?? "", status?.message ?? "", replayed);
}

function toAnswer({ transferId, state, balances, pendingAccountIds }: Transfer, replayed: boolean): Answer {
  switch (state) {
    case Transfer_State.POSTED:
    case Transfer_State.REVERSED: {
      const acknowledged = balances.map(({ accountId, postedMinorUnits }) => ({ accountId, postedMinorUnits }));
      return { kind: "posted", transferId, balances: acknowledged, pendingAccountIds, replayed };
    }
    case Transfer_State.PROCESSING:
      return { kind: "unknown", reason: "PROCESSING" };
    case Transfer_State.FAILED:
    case Transfer_State.STATE_UNSPECIFIED:
    case Transfer_State.UNRECOGNIZED:
      return { kind: "defect", reason: `the transfer ${transferId} is in the state ${state}` };
  }
}

function ofCallError(error: unknown): Answer {
  if (!(error instanceof CallError)) throw error;
  return ofError(error.code, error.reason, error.message, error.replayed);
}

/** docs/errors.md: what a status and a reason promise. */
function ofError(code: number, reason: string, message: string, replayed: boolean): Answer {
  if (code === FAILED_PRECONDITION) return { kind: "refused", reason, replayed };
  if (REJECTIONS.includes(code)) return { kind: "rejected", reason };
  if (reason === INTERNAL) return { kind: "defect", reason: message };
  if (reason !== "" && (code === UNAVAILABLE || code === RESOURCE_EXHAUSTED)) return { kind: "not_done", reason };
  return { kind: "unknown", reason: reason === "" ? `${code} ${message}` : reason };
}
