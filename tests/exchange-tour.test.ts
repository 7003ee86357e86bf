import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { restUrl, stackName } from "#tests/stack.ts";

const TOUR_TIMEOUT_MS = 60_000;

test("every line of the tour of docs/exchange.md works when pasted", async () => {
  const page = readFileSync("docs/exchange.md", "utf8");
  const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block]) => block);
  const script = blocks
    .join("echo; echo ----\n")
    .replace("http://127.0.0.1:8080", restUrl)
    .replace("ROLE=service", `ROLE=service STACK=${stackName}`);
  assert.ok(script.includes(restUrl));
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
    timeout: TOUR_TIMEOUT_MS,
  });
  const [rates, quoted, used, amounts, ...rest] = stdout.split("----\n");
  assert.equal(rest.length, 0, stdout);
  assert.match(rates ?? "", /"base":"EUR","quote":"CHF","rate":"0.9371","spread_bps":50/);
  assert.match(quoted ?? "", /POSTED\n[\s\S]*"rate":"0.9324145"[\s\S]*"buy_minor_units":"9324"[\s\S]*"state":"OPEN"/);
  assert.match(used ?? "", /"state":"POSTED","type":"conversion"[\s\S]*"quote_id":"quot_\w+"[\s\S]*USED\nQUOTE_USED\n/);
  assert.match(amounts ?? "", /^CONVERTS_TO_ZERO\n5363\n/);
});
