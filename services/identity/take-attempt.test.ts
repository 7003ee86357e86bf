import assert from "node:assert/strict";
import { test } from "node:test";
import type { Call } from "#lib/grpc-server.ts";
import { addressLimit } from "#services/identity/address-limit.ts";
import type { Context } from "#services/identity/context.ts";
import { takeAttempt } from "#services/identity/take-attempt.ts";

function attempts(calls: readonly Pick<Call, "peer" | "clientAddress">[]): string[] {
  const ctx = { addressLimit: addressLimit({ burst: 2, perSecond: 1 }, () => 1_000) } as Context;
  return calls.map((call) => {
    try {
      takeAttempt(ctx, call as Call);
      return "taken";
    } catch (error) {
      return (error as { reason: string }).reason;
    }
  });
}

test("calls through the gateway that name no client address count against one address together", () => {
  const unknown = { peer: "gateway", clientAddress: undefined };
  const known = { peer: "gateway", clientAddress: "192.0.2.1" };
  assert.deepEqual(attempts([unknown, unknown, unknown, known]), ["taken", "taken", "TOO_MANY_ATTEMPTS", "taken"]);
});

test("our own processes are not limited by an address", () => {
  const console = { peer: "console", clientAddress: undefined };
  assert.deepEqual(attempts([console, console, console]), ["taken", "taken", "taken"]);
});
