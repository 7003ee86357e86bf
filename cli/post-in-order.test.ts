import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { Ledger } from "#cli/ledger.ts";
import { Interrupted } from "#cli/patience.ts";
import { type Outcome, postInOrder } from "#cli/post-in-order.ts";
import {
  BatchCreateTransfersResponse_Result,
  CreateTransferRequest,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

type Answer = (key: string, tries: number) => BatchCreateTransfersResponse_Result;

const posted = (state: Transfer_State = Transfer_State.POSTED) =>
  BatchCreateTransfersResponse_Result.fromPartial({ outcome: { $case: "transfer", value: { state } } });
const refused = (code: number) =>
  BatchCreateTransfersResponse_Result.fromPartial({ outcome: { $case: "error", value: { code, message: "no" } } });

/** A ledger that answers as told, and what it was asked. */
function fakeLedger(answer: Answer, signal = new AbortController().signal) {
  const calls: string[][] = [];
  const tries = new Map<string, number>();
  const ledger: Partial<Ledger> = {
    signal,
    onWait: () => {},
    async createTransfers(transfers) {
      calls.push(transfers.map(({ idempotencyKey }) => idempotencyKey));
      return transfers.map(({ idempotencyKey }) => {
        const tried = (tries.get(idempotencyKey) ?? 0) + 1;
        tries.set(idempotencyKey, tried);
        return answer(idempotencyKey, tried);
      });
    },
  };
  return { ledger: ledger as Ledger, calls };
}

async function post(ledger: Ledger, keys: readonly string[]): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  const toRequest = (idempotencyKey: string) => CreateTransferRequest.fromPartial({ idempotencyKey });
  await postInOrder(ledger, keys, toRequest, (key, outcome) => {
    assert.ok(!outcomes.has(key), `${key} had two outcomes`);
    outcomes.set(key, outcome);
  });
  return outcomes;
}

test("the order of the file is the order of the calls, a thousand at a time", async () => {
  const keys = Array.from({ length: 2_500 }, (_, index) => String(index));
  const { ledger, calls } = fakeLedger(() => posted());
  const outcomes = await post(ledger, keys);
  assert.deepEqual(
    calls.map((call) => call.length),
    [1_000, 1_000, 500],
  );
  assert.deepEqual(calls.flat(), keys);
  assert.equal(outcomes.size, 2_500);
});

test("only what had no outcome is repeated, before anything later is sent", async () => {
  const keys = Array.from({ length: 1_001 }, (_, index) => String(index));
  const { ledger, calls } = fakeLedger((key, tries) => {
    if (key === "3" && tries === 1) return refused(status.UNAVAILABLE);
    if (key === "5" && tries === 1) return refused(status.RESOURCE_EXHAUSTED);
    if (key === "7" && tries < 3) return posted(Transfer_State.PROCESSING);
    if (key === "8") return refused(status.FAILED_PRECONDITION);
    return posted();
  });
  const outcomes = await post(ledger, keys);
  assert.deepEqual(calls.slice(1), [["3", "5", "7"], ["7"], ["1000"]]);
  assert.deepEqual(outcomes.get("8"), { kind: "refused", reason: "", message: "no" });
  assert.equal([...outcomes.values()].filter(({ kind }) => kind === "posted").length, 1_000);
});

test("an interruption is heeded between calls and in a pause", async () => {
  const interrupt = new AbortController();
  const { ledger, calls } = fakeLedger(() => refused(status.UNAVAILABLE), interrupt.signal);
  setTimeout(() => interrupt.abort(), 20);
  await assert.rejects(post(ledger, ["1"]), Interrupted);
  const before = calls.length;
  await assert.rejects(post(ledger, ["1"]), Interrupted);
  assert.equal(calls.length, before);
});
