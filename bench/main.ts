import { parseArgs } from "node:util";
import { type ProcessorsUsed, processorsOfOthers } from "#bench/cpu.ts";
import { FULL_WORKLOADS, runFullWorkloads } from "#bench/full-workloads.ts";
import { GROWTH, runGrowth } from "#bench/growth-workloads.ts";
import type { Harness } from "#bench/harness.ts";
import { LEDGER_WORKLOADS, runLedgerWorkloads } from "#bench/ledger-workloads.ts";
import { type LoadClient, openLoadClient } from "#bench/load-client.ts";
import { describeMachine } from "#bench/machine.ts";
import { measureFreshStart } from "#bench/measure-fresh-start.ts";
import { OVERLOAD, runOverload } from "#bench/overload-workloads.ts";
import { runSignIn, SIGN_IN } from "#bench/sign-in-workloads.ts";
import { formatTable, type Row } from "#bench/table.ts";
import { runTls, TLS } from "#bench/tls-workloads.ts";
import { runTokenCheck, TOKEN_CHECK } from "#bench/token-check.ts";
import { developmentToken } from "#infra/local/development-key.ts";
import { endpoints, type PartName, startStack, stopStack } from "#infra/local/stack.ts";

const WORKLOADS = [...LEDGER_WORKLOADS, TLS, ...FULL_WORKLOADS, TOKEN_CHECK];
/** Takes minutes, most of them for fetching. */
const FRESH_START = "fresh-start";
/** Only when asked for. */
const MORE_WORKLOADS = [OVERLOAD, GROWTH, FRESH_START, SIGN_IN];
const DEFAULT_SECONDS = 6;
const DEFAULT_ROUNDS = 3;
const DEFAULT_ENTRIES = 10_000_000;
/** What other programs may take of the machine without being mentioned. */
const DISTURBED_FROM_PROCESSORS = 0.15;
const HELP = `The figures of this machine: Ledgermesh against raw Postgres, in one run and in turns.

  node bench/main.ts [options]

  --seconds N    per measurement (default ${DEFAULT_SECONDS}; "history" takes a minute in any case)
  --rounds N     how often the lines take turns (default ${DEFAULT_ROUNDS})
  --only A,B     some of: ${WORKLOADS.join(", ")};
                 or of those that are left out otherwise: ${MORE_WORKLOADS.join(", ")}
  --entries N    that "${GROWTH}" loads first (default ${DEFAULT_ENTRIES})
  --strict       exit with 1 when a bound is missed
  --json         the results as JSON on standard output
  --running      measure the stack "bench" that runs already, and leave it running
  --help         this text

It starts a stack of its own ("bench": own ports, data wiped first) and stops it at the end. Figures only count on a
machine that does nothing else. It exits with 1 when a check fails: what was acknowledged must be what was written, every
shard must sum to zero, everything must be published, and nothing may be missing in the history.
`;

const NOT_FOR_THE_LEDGER = [
  "elasticsearch",
  "projector",
  "reporting",
  "mail",
  "identity",
] as const satisfies readonly PartName[];
const WITHOUT_GATEWAY = [...NOT_FOR_THE_LEDGER, "gateway"] as const satisfies readonly PartName[];
const NOT_FOR_SIGN_IN = ["elasticsearch", "projector", "reporting", "mail"] as const satisfies readonly PartName[];

const { values: args } = parseArgs({
  options: {
    seconds: { type: "string", default: String(DEFAULT_SECONDS) },
    rounds: { type: "string", default: String(DEFAULT_ROUNDS) },
    only: { type: "string", default: WORKLOADS.join(",") },
    entries: { type: "string", default: String(DEFAULT_ENTRIES) },
    strict: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    running: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (args.help) process.stdout.write(HELP);
else process.exitCode = await main();

async function main(): Promise<number> {
  const only = args.only.split(",");
  const unknown = only.find((name) => ![...WORKLOADS, ...MORE_WORKLOADS].includes(name));
  const [seconds, rounds, entries] = [Number(args.seconds), Number(args.rounds), Number(args.entries)];
  const positive = seconds >= 1 && [rounds, entries].every((value) => Number.isInteger(value) && value >= 1);
  if (unknown !== undefined || !positive) {
    const wrong = "--seconds, --rounds and --entries are numbers from 1 on.";
    say(unknown === undefined ? wrong : `There is no workload "${unknown}".`);
    process.stderr.write(HELP);
    return 2;
  }
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stopping.abort());
  const { signal } = stopping;

  const results: Results = { rows: [], clients: undefined, others: 0 };
  let failed = false;
  try {
    await measureAll(only, { seconds, rounds, entries }, results, signal);
  } catch (error) {
    failed = true;
    if (signal.aborted) say("interrupted");
    else say(`the bench failed: ${error instanceof Error ? error.stack : error}`);
  }
  // What was measured before a failure took minutes, and stays true.
  if (results.rows.length > 0) print(results);
  return failed || (args.strict && results.rows.some(({ met }) => met === false)) ? 1 : 0;
}

/** What is known so far. */
interface Results {
  readonly rows: Row[];
  clients: LoadClient["names"] | undefined;
  /** The most processors that other programs took during a measurement. */
  others: number;
}

async function measureAll(
  only: readonly string[],
  { seconds, rounds, entries }: { seconds: number; rounds: number; entries: number },
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const wanted = (workload: string) => only.includes(workload);
  const client = await openLoadClient(signal, say);
  results.clients = client.names;
  const sawProcessors = (used: ProcessorsUsed) => {
    say(`    processors: ${used.map(([part, processors]) => `${part} ${processors.toFixed(2)}`).join(", ")}`);
    results.others = Math.max(results.others, processorsOfOthers(used));
  };
  const run = async (without: readonly PartName[], work: (harness: Harness) => Promise<Row[]>) => {
    const rows = await onStack(without, signal, () =>
      work({
        stack: endpoints("bench"),
        client,
        token: benchToken,
        seconds,
        rounds,
        wanted,
        say,
        sawProcessors,
        signal,
      }),
    );
    results.rows.push(...rows);
  };
  if (LEDGER_WORKLOADS.some(wanted)) await run(NOT_FOR_THE_LEDGER, runLedgerWorkloads);
  if (wanted(TLS)) await run(WITHOUT_GATEWAY, runTls);
  if (wanted(OVERLOAD)) await run(WITHOUT_GATEWAY, runOverload);
  if (wanted(SIGN_IN)) await run(NOT_FOR_SIGN_IN, runSignIn);
  if (wanted(GROWTH)) await run(WITHOUT_GATEWAY, (harness) => runGrowth(harness, entries));
  if (FULL_WORKLOADS.some(wanted)) await run([], runFullWorkloads);
  if (wanted(TOKEN_CHECK)) results.rows.push(...(await runTokenCheck()));
  if (wanted(FRESH_START)) results.rows.push(...(await runFreshStart(signal)));
}

async function benchToken(): Promise<string> {
  return (await developmentToken("bench", "service", "service:console")).token;
}

function print({ rows, clients, others }: Results): void {
  const machine = describeMachine();
  if (others > DISTURBED_FROM_PROCESSORS) {
    machine.push(`DISTURBED: other programs took up to ${others.toFixed(1)} processors: these figures do not count`);
  }
  if (args.json) process.stdout.write(`${JSON.stringify({ machine, clients, rows }, undefined, 2)}\n`);
  else process.stdout.write(`\n${machine.join("\n")}\n\n${formatTable(rows)}\n`);
}

async function runFreshStart(signal: AbortSignal): Promise<Row[]> {
  say("cloning HEAD, setting up and starting everything there");
  const { setUpAndStartMs, toFirstTransferMs } = await measureFreshStart(signal, say);
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  return [
    { workload: "from a clone to a system that is ready", figure: seconds(setUpAndStartMs) },
    { workload: "from a clone to the first transfer by REST", figure: seconds(toFirstTransferMs) },
  ];
}

/** Runs work on a fresh stack and stops it whatever happens. */
async function onStack<T>(without: readonly PartName[], signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  if (args.running) return await work();
  signal.throwIfAborted();
  const started = await startStack("bench", { without, fresh: true, onLine: say });
  if (started === "already_running") {
    throw new Error('the stack "bench" runs already. Mend it: make stop STACK=bench, or give --running');
  }
  try {
    return await work();
  } finally {
    say("stopping the stack");
    await stopStack("bench");
  }
}

/** Progress goes to standard error, so that results can be piped. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
