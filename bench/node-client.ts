import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type MakeCall, measureClosedLoop } from "#bench/closed-loop.ts";
import { transferRequest } from "#bench/fund-accounts.ts";
import { AMOUNT_MINOR_UNITS, CALL_TIMEOUT_MS, CURRENCY, type Pair } from "#bench/load-request.ts";
import { postTransfer } from "#bench/post-transfer.ts";
import { openRest } from "#bench/rest.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { openTls } from "#lib/tls.ts";
import { LedgerServiceClient, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** The load client for machines without Go: `--protocol`, and otherwise the flags and the output of bench/load/main.go. */

type MakeTransfer = (...pair: Pair) => Promise<void>;

const { values: flags } = parseArgs({
  options: {
    protocol: { type: "string", default: "grpc" },
    address: { type: "string", default: "" },
    pairs: { type: "string", default: "" },
    latencies: { type: "string", default: "" },
    currency: { type: "string", default: CURRENCY },
    "token-file": { type: "string", default: "" },
    "tls-ca": { type: "string", default: "" },
    "tls-certificate": { type: "string", default: "" },
    "tls-key": { type: "string", default: "" },
    callers: { type: "string", default: "64" },
    "warm-up-ms": { type: "string", default: "1000" },
    "measure-ms": { type: "string", default: "10000" },
  },
});
const pairs = readFileSync(flags.pairs, "utf8")
  .split("\n")
  .map((line) => line.split(" ") as unknown as Pair);
const transfer = flags.protocol === "rest" ? restCaller() : grpcCaller();
let turn = 0;
const makeNext: MakeCall = async () => {
  await transfer(...(pairs[turn++ % pairs.length] as Pair));
  return 1;
};
const callers = Array.from({ length: Number(flags.callers) }, () => makeNext);
const { acknowledged, failed, firstFailures, latenciesUs } = await measureClosedLoop(
  callers,
  Number(flags["warm-up-ms"]),
  Number(flags["measure-ms"]),
);
writeFileSync(flags.latencies, new Uint8Array(latenciesUs.buffer));
process.stdout.write(`${JSON.stringify({ acknowledged, failed, first_failures: firstFailures })}\n`);
process.exit(0);

function grpcCaller(): MakeTransfer {
  const files = { caFile: flags["tls-ca"], certificateFile: flags["tls-certificate"], keyFile: flags["tls-key"] };
  const ledger = openClient(LedgerServiceClient, flags.address, openTls(files));
  return async (debit, credit) => {
    const wanted = transferRequest(debit, credit, AMOUNT_MINOR_UNITS);
    const { response } = await call(ledger, ledger.createTransfer, wanted, {}, CALL_TIMEOUT_MS);
    if (response.state !== Transfer_State.POSTED) throw new Error(`the transfer has state ${response.state}`);
  };
}

function restCaller(): MakeTransfer {
  const rest = openRest(`http://${flags.address}`, readFileSync(flags["token-file"], "utf8"), Number(flags.callers));
  return async (debit, credit) => {
    await postTransfer(rest, debit, credit);
  };
}
