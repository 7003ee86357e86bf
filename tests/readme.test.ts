import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { restUrl, stackName } from "#tests/stack.ts";

const TOUR_TIMEOUT_MS = 60_000;

test("every line of the README's tour works when pasted", async () => {
  const blocks = [...readFileSync("README.md", "utf8").matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block]) => block);
  assert.ok(blocks.length >= 5);
  const script = blocks
    .join("echo; echo ----\n")
    .replace("http://127.0.0.1:8080", restUrl)
    .replace("ROLE=service", `ROLE=service STACK=${stackName}`);
  assert.ok(script.includes(restUrl));
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
    timeout: TOUR_TIMEOUT_MS,
  });
  const [signedUp, opened, moved, repeated, refused, captured, reversed, history, others, ...rest] =
    stdout.split("----\n");
  assert.equal(rest.length, 0);
  assert.match(signedUp ?? "", /^user_\w+ user_\w+\s*$/);
  assert.match(opened ?? "", /^acct_\w+ acct_\w+\s*$/);
  assert.equal(moved?.match(/"state":"POSTED"/g)?.length, 2);
  assert.match(repeated ?? "", /HTTP\/1.1 200[\s\S]*idempotent-replayed: true[\s\S]*"reason":"IDEMPOTENCY_KEY_REUSED"/);
  assert.match(refused ?? "", /"reason":"INSUFFICIENT_FUNDS"[\s\S]*"reason":"UNKNOWN_FIELD"[\s\S]*amout_minor_units/);
  assert.match(captured ?? "", /"available_minor_units":"1500"[\s\S]*"hold_id":"hold_\w+"/);
  assert.match(reversed ?? "", /"memo":"no dessert"[\s\S]*"reason":"REFUND_EXCEEDS_REMAINDER"/);
  assert.match(history ?? "", /"memo":"change"[\s\S]*"memo":"lunch"/);
  assert.deepEqual(
    [...(others ?? "").matchAll(/"reason":"(\w+)"/g)].map(([, reason]) => reason),
    ["ACCOUNT_NOT_FOUND", "ROLE_NOT_ALLOWED", "TOKEN_REQUIRED"],
  );
  assert.equal(history?.match(/"has_more":true/g)?.length, 1);
});
