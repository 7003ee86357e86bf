import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cpuSecondsOf, watchProcess } from "#bench/cpu.ts";
import { fundAccounts } from "#bench/fund-accounts.ts";
import { CALLERS, type Harness, unaryLoad } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { type Line, measureInTurns, toRow } from "#bench/lines.ts";
import type { Load } from "#bench/load-request.ts";
import { median } from "#bench/measurement.ts";
import { type DrawPair, uniformPairs } from "#bench/pairs.ts";
import type { Row } from "#bench/table.ts";
import { checkShards, countTransfers } from "#bench/verify.ts";
import { HOST, stackEnvironment } from "#infra/local/endpoints.ts";
import { freePort } from "#infra/local/free-port.ts";
import { root } from "#infra/local/paths.mjs";
import { httpCheck } from "#infra/local/readiness.ts";
import { readState } from "#infra/local/state.ts";

/** What mutual TLS and authorisation cost: the stack's ledger against one on the same shards that does neither, in turns. */

export const TLS = "tls";

const ACCOUNTS = 10_000;
const TLS_SHARE_MIN = 0.85;
const PLAIN = `unary gRPC, ${CALLERS} callers, plain text, nobody is asked who they are`;
const PLAIN_LEDGER = "ledger in plain text";
const READY_WITHIN_MS = 30_000;
const READY_POLL_MS = 100;

export async function runTls(harness: Harness): Promise<Row[]> {
  const { stack, say, token } = harness;
  if (!harness.client.hasGhz) {
    say("no ghz, so what TLS costs is not measured");
    return [];
  }
  const ledger = openLedger(stack);
  const plain = await startPlainLedger(harness.signal);
  try {
    say(`funding ${ACCOUNTS} accounts on shard 1`);
    const accountIds = await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length);
    const atLeast = { times: TLS_SHARE_MIN, of: [PLAIN] };
    const bearer = await token();
    const draw = uniformPairs(accountIds);
    const lines: TlsLine[] = [
      tlsLine(harness, PLAIN, draw, plain.pid, { address: plain.address, tls: undefined }),
      { ...tlsLine(harness, "  mutual TLS, the caller is known by its certificate", draw, ledgerPid(), {}), atLeast },
      { ...tlsLine(harness, "  mutual TLS, and a token in each call", draw, ledgerPid(), { bearer }), atLeast },
    ];
    const measured = await measureInTurns(harness, lines);
    say("checking: sums, balances against entries, everything published");
    await checkShards(stack.shards);
    return lines.flatMap((line) => [toRow(line, measured), processorTimeRow(line)]);
  } finally {
    ledger.close();
    plain.end();
  }
}

interface TlsLine extends Line {
  /** Processor time of its ledger per transfer, each round. */
  readonly microseconds: number[];
}

function tlsLine(harness: Harness, name: string, draw: DrawPair, pid: number, load: Partial<Load>): TlsLine {
  const microseconds: number[] = [];
  return {
    only: TLS,
    name,
    client: harness.client.names.grpc,
    microseconds,
    async measure() {
      const before = cpuSecondsOf(pid);
      const measurement = await harness.client.measure({ ...unaryLoad(harness, "grpc", draw), ...load });
      microseconds.push(((cpuSecondsOf(pid) - before) * 1_000_000) / measurement.acknowledged);
      return measurement;
    },
    count: () => countTransfers(harness.stack.shards),
  };
}

/** Less moved than the rate by what else the machine does. */
function processorTimeRow({ microseconds }: TlsLine): Row {
  return {
    workload: "    processor time of that ledger per transfer",
    figure: `${Math.round(median(microseconds))} µs`,
  };
}

function ledgerPid(): number {
  const ledger = readState("bench")?.parts.find(({ name }) => name === "ledger")?.process;
  if (ledger === undefined) throw new Error("the ledger does not run");
  return ledger.pid;
}

interface PlainLedger {
  readonly address: string;
  readonly pid: number;
  readonly end: () => void;
}

/** A further ledger on the stack's shards, which no client but this bench knows of. */
async function startPlainLedger(signal: AbortSignal): Promise<PlainLedger> {
  const [port, healthPort] = [await freePort(), await freePort()];
  const child = spawn(process.execPath, [join(root, "services/ledger/main.ts")], {
    env: {
      ...stackEnvironment("bench", "ledger"),
      LEDGERMESH_GRPC_PORT: String(port),
      LEDGERMESH_HEALTH_PORT: String(healthPort),
      LEDGERMESH_GRPC_PLAINTEXT: "for-measuring",
    },
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const end = () => void child.kill();
  process.once("exit", end);
  const { pid } = child;
  if (pid === undefined) throw new Error("the ledger in plain text cannot be started");
  watchProcess(PLAIN_LEDGER, pid);
  const check = httpCheck(`http://${HOST}:${healthPort}/healthz`);
  const deadline = performance.now() + READY_WITHIN_MS;
  for (;;) {
    const missing = await check();
    if (missing === undefined) return { address: `${HOST}:${port}`, pid, end };
    if (signal.aborted || child.exitCode !== null || performance.now() > deadline) {
      end();
      throw new Error(`the ledger in plain text did not start: ${missing}`);
    }
    await sleep(READY_POLL_MS);
  }
}
