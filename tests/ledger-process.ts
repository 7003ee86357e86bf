import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { stackEnvironment } from "#infra/local/endpoints.ts";
import { openClient } from "#lib/grpc-client.ts";
import { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { consoleTls, eventually, stackName } from "#tests/stack.ts";

export interface LedgerProcess {
  readonly client: LedgerServiceClient;
  signal(signal: NodeJS.Signals): void;
}

/** Starts a further ledger on the shards of the stack (or the ones given), on ports of its own; it ends with the test. */
export async function startLedger(
  grpcPort: number,
  shards?: readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<LedgerProcess> {
  const healthPort = grpcPort + 100;
  const environment = {
    ...stackEnvironment(stackName, "ledger"),
    LEDGERMESH_GRPC_PORT: String(grpcPort),
    LEDGERMESH_HEALTH_PORT: String(healthPort),
    ...(shards === undefined ? {} : { LEDGERMESH_SHARDS: shards.join(",") }),
    ...more,
  };
  const healthz = `http://127.0.0.1:${healthPort}/healthz`;
  await assert.rejects(fetch(healthz), `another ledger has the ports ${grpcPort} and ${healthPort}`);
  const child = spawn(process.execPath, ["services/ledger/main.ts"], { env: environment, stdio: "ignore" });
  process.once("exit", () => child.kill("SIGKILL"));
  await eventually(async () => (await fetch(healthz)).ok, "the further ledger is ready");
  return {
    client: openClient(LedgerServiceClient, `127.0.0.1:${grpcPort}`, consoleTls),
    signal: (name) => child.kill(name),
  };
}
