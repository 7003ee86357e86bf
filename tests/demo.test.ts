import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { ledgermesh, run } from "#tests/command-line.ts";
import { postgres, stack, stackName } from "#tests/stack.ts";

/** Sum and number of the entries of a run's accounts, its system accounts included, by currency. */
async function moneyOf(runId: string): Promise<Map<string, { sum: bigint; entries: bigint }>> {
  const money = new Map<string, { sum: bigint; entries: bigint }>();
  for (const shard of stack.shards.keys()) {
    const { rows } = await postgres(shard + 1).query<{ currency: string; sum: string; entries: string }>(
      `select a.currency, sum(e.amount_minor_units) as sum, count(*) as entries
         from ledger.accounts a join ledger.entries e using (account_id)
        where a.reference like $1 or a.reference like $2 group by a.currency`,
      [`demo-${runId}/%`, `system:demo\\_${runId}\\_%`],
    );
    for (const { currency, sum, entries } of rows) {
      assert.ok(!money.has(currency), `${currency} is on two shards`);
      money.set(currency, { sum: BigInt(sum), entries: BigInt(entries) });
    }
  }
  return money;
}

test("the demo runs, its money comes to zero in each currency, and the history shows the statement", async () => {
  const { exitStatus, stdout, stderr } = await ledgermesh(["demo"]);
  assert.equal(exitStatus, 0, `${stdout}${stderr}`);
  const runId = /^Seed 1, run ([0-9a-f]{8}): /.exec(stdout)?.[1] as string;
  const money = await moneyOf(runId);
  assert.deepEqual(new Set(money.keys()), new Set(["EUR", "JPY", "KWD", "USD"]));
  for (const [currency, { sum, entries }] of money) {
    assert.equal(sum, 0n, currency);
    assert.ok(entries > 500n, currency);
  }
  assert.match(stdout, /^Statement of \w+ of Lindenau, acct_[0-9a-z]{26}, newest first:$/m);
  assert.match(stdout, /^The history shows the same, \d+ ms after/m);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
  assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f]/);
});

test("its lines to try work as they are, as the user that it signed up and as a service", async () => {
  const { exitStatus, stdout } = await ledgermesh(["demo", "--seed", "2", "--people", "8", "--days", "3"]);
  assert.equal(exitStatus, 0, stdout);
  assert.match(stdout, /^Signed up: \w+-[0-9a-f]{8}@demo\.example, /m);
  const [, text = ""] = stdout.split(/^Try, for example, as \w+, and as a service:$/m);
  const script = text
    .replaceAll("ROLE=service", `ROLE=service STACK=${stackName}`)
    .replaceAll(/^ {2}curl .*$/gm, "$&; echo");
  const run = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script]);
  const answers = run.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    answers.map((answer) => Object.keys(answer)[0]),
    ["entries", "entries", "account_id", "entries"],
  );
  for (const { entries } of answers) assert.ok(!Array.isArray(entries) || entries.length > 0);
});

test("without a gateway the demo still shows the statement; without a ledger it says so", async () => {
  const size = ["--people", "4", "--days", "1"];
  const noGateway = await run(["demo", ...size, "--ledger", stack.ledger, "--gateway", "http://127.0.0.1:1"]);
  assert.equal(noGateway.exitStatus, 0);
  assert.match(noGateway.stdout, /^Statement of /m);
  assert.match(noGateway.stdout, /^Nothing answers at http:\/\/127\.0\.0\.1:1: /m);
  const noLedger = await run(["demo", ...size, "--ledger", "127.0.0.1:1"]);
  assert.equal(noLedger.exitStatus, 2);
  assert.match(noLedger.stderr, /^No ledger answers at 127\.0\.0\.1:1\./);
});
