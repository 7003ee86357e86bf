import assert from "node:assert/strict";
import { test } from "node:test";
import { isPlaintextForMeasuring } from "#lib/environment.ts";

test("plain text is for measuring in a system that says it is one for development, and for nothing else", () => {
  const plaintext = (value: string | undefined, environment?: string) =>
    isPlaintextForMeasuring({ LEDGERMESH_GRPC_PLAINTEXT: value, LEDGERMESH_ENVIRONMENT: environment });
  assert.equal(plaintext(undefined, "production"), false);
  assert.equal(plaintext("", "production"), false);
  assert.equal(plaintext("for-measuring", "development"), true);
  assert.throws(() => plaintext("for-measuring", "production"), /anybody could move money/);
  assert.throws(() => plaintext("for-measuring"), /LEDGERMESH_ENVIRONMENT is production/);
  assert.throws(() => plaintext("for-measuring", "staging"), /staging/);
  assert.throws(() => plaintext("true", "development"), /only "for-measuring" is possible/);
});
