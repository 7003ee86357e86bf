import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Random, seededRandom } from "#cli/random.ts";
import { pause, unlessAborted } from "#lib/back-off.ts";
import { elasticsearch } from "#tests/projection.ts";
import { stack } from "#tests/stack.ts";
import { closeNats } from "#tests/stream.ts";
import { type FaultyNetwork, openFaultyNetwork } from "#tests/torture/faulty-network.ts";
import { isAnswered, openHistory, runFolder, toJson } from "#tests/torture/history.ts";
import { type Clients, openClients } from "#tests/torture/load.ts";
import { type Options, parseOptions } from "#tests/torture/options.ts";
import { groupOf } from "#tests/torture/orders.ts";
import { type Parts, startParts } from "#tests/torture/parts.ts";
import { whenQuiet } from "#tests/torture/quiet.ts";
import { openReport, type Report } from "#tests/torture/report.ts";
import { strikeAtRandom, usableFaults } from "#tests/torture/schedule.ts";
import { openLedger } from "#tests/torture/send.ts";
import { stagesOf, strikeAtSteps } from "#tests/torture/staged.ts";
import { openVerifier } from "#tests/torture/verify.ts";
import { watch } from "#tests/torture/watch.ts";
import { checkRoad, checkShards, checkWhileItRuns } from "#tests/torture/whole-road.ts";
import { openWorld } from "#tests/torture/world.ts";

/**
 * The run itself, on a stack that main.ts has started: load with faults, interrupted a few times by a quiet point where
 * everything is checked; at the end the road to JetStream and Elasticsearch as well.
 */

/** So long at most without a check. */
const MAX_STRETCH_MS = 120_000;
const SUMMARY_INTERVAL_MS = 10_000;
/** Until clients have their answers, and until nothing is half way any more: on a busy machine; and who only looks for the first thing. */
const QUIET_TIMEOUT_MS = 120_000;
const QUIET_TIMEOUT_OF_FIRST_MS = 45_000;
/** Of the commands that were answered, so many are repeated at each quiet point; of those that were not, this part. */
const REPEATED_ANSWERED = 100;
const REPEATED_UNANSWERED_CHANCE = 0.6;
/** With fewer, the run would have shown nothing. */
const MIN_POSTED_PER_MINUTE = 100;
/** Added to the seed, so that each chance is one of its own. */
const SEEDS = { world: 1, strikes: 2, stages: 3, repeats: 4, load: 1_000_003 } as const;

const options = parseOptions(process.argv.slice(2));
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupted.abort());
// An open connection must not keep the process alive.
process.exit(await main(options, interrupted.signal));

async function main({ seed, json, ...rest }: Options, signal: AbortSignal): Promise<number> {
  const history = openHistory(seed);
  const print = (line: string) => (json ? process.stderr : process.stdout).write(`${line}\n`);
  const report = openReport(seed, history, print);
  let networks: readonly FaultyNetwork[] = [];
  let parts: Parts | undefined;
  try {
    networks = await Promise.all(stack.shards.map((url) => openFaultyNetwork(Number(new URL(url).port))));
    parts = await startParts((shards) => throughNetworks(shards, networks), rest.withElasticsearch, signal);
    await unlessAborted(parts.ready(), signal);
    await unlessAborted(torture({ seed, json, ...rest }, { history, report, parts, networks }, signal), signal);
  } catch (error) {
    if (!signal.aborted) report.addFindings([{ what: "the run itself failed", ids: [describe(error)] }]);
  } finally {
    parts?.resumeAll();
    await parts?.end();
    for (const network of networks) network.close();
    await closeNats();
    await elasticsearch.close();
  }
  const summary = report.summary();
  writeFileSync(join(runFolder, "report.json"), `${toJson(summary)}\n`);
  if (summary.faultCount > 0) print(`\n${report.stagedTable()}\n\n${table(summary.faults)}\n`);
  for (const { what, ids } of summary.findings) print(`FOUND  ${what}: ${ids.join(", ")}`);
  if (summary.findings.length > 0) print(`What every client saw: ${history.file}`);
  if (json) process.stdout.write(`${toJson(summary)}\n`);
  if (signal.aborted) return 130;
  return summary.findings.length === 0 ? 0 : 1;
}

interface Tortured {
  readonly history: ReturnType<typeof openHistory>;
  readonly report: Report;
  readonly parts: Parts;
  readonly networks: readonly FaultyNetwork[];
}

async function torture(options: Options, { history, report, parts, networks }: Tortured, signal: AbortSignal) {
  const { seed, minutes, minFaults, only, first, withElasticsearch } = options;
  const quietMs = first ? QUIET_TIMEOUT_OF_FIRST_MS : QUIET_TIMEOUT_MS;
  const isEnough = () => first && report.summary().findings.length > 0;
  const ledgers = [openLedger("ledger", stack.ledger), openLedger("ledger-2", parts.furtherLedger)];
  const clients = openClients(history, ledgers);
  const random = seededRandom(seed + SEEDS.world);
  const world = await openWorld(history, random, (command) => clients.pursue([command], random));
  report.say(`${world.accounts.length} accounts are open; the faults begin`);

  const strikes = seededRandom(seed + SEEDS.strikes);
  const stages = seededRandom(seed + SEEDS.stages);
  const pairs = stagesOf(stages, only);
  const repeats = seededRandom(seed + SEEDS.repeats);
  const verifier = openVerifier();
  const stretches = Math.max(1, Math.ceil((minutes * 60_000) / MAX_STRETCH_MS));
  for (let stretch = 1; stretch <= stretches && !signal.aborted && !isEnough(); stretch += 1) {
    const durationMs = (minutes * 60_000) / stretches;
    const enough = new AbortController();
    const faultsEnd = AbortSignal.any([signal, enough.signal, AbortSignal.timeout(durationMs)]);
    const loadEnd = new AbortController();
    const load = clients.run(world, seed + SEEDS.load * stretch, AbortSignal.any([signal, loadEnd.signal]));
    const summaries = setInterval(() => report.say(progressText(history.counts(), report)), SUMMARY_INTERVAL_MS);
    const ctx = { parts, networks, signal: faultsEnd, world, history, clients, ledgers };
    await Promise.all([
      strikeAtRandom(ctx, usableFaults(parts.names, only), strikes, report),
      strikeAtSteps(ctx, pairs, stages, report),
      checkWhileItRuns(durationMs / 2, faultsEnd).then(report.addFindings),
      watch(faultsEnd, (findings) => {
        report.addFindings(findings);
        if (isEnough()) enough.abort();
      }),
    ]);
    clearInterval(summaries);
    if (signal.aborted || isEnough()) return;

    parts.resumeAll();
    for (const network of networks) network.thaw();
    await parts.ready();
    loadEnd.abort();
    if (!(await within(Promise.all([load, clients.settled()]), quietMs))) {
      const waiting = history.commands().filter((command) => !isAnswered(command));
      report.addFindings([
        { what: "clients get no answer though nothing is broken", ids: waiting.map(({ key }) => key).slice(0, 10) },
      ]);
    }
    report.addFindings(await whenQuiet(quietMs));
    if (isEnough()) return;
    await repeat(history, clients, repeats);
    report.addFindings(await whenQuiet(quietMs));
    const { findings, unknownMade, unknownNotMade } = await verifier.verify(history);
    report.addFindings([...findings, ...clients.findings(), ...(await checkShards())]);
    report.say(
      `quiet point ${stretch} of ${stretches}: ${history.commands().length} commands checked, ${unknownMade} left unknown were made, ${unknownNotMade} were not; ${report.summary().findings.length} findings`,
    );
    history.forget();
  }
  if (signal.aborted || isEnough()) return;
  report.addFindings(await checkRoad(withElasticsearch));
  const { posted } = history.counts();
  if (posted < MIN_POSTED_PER_MINUTE * minutes) {
    report.addFindings([{ what: "too little was acknowledged to show anything", ids: [String(posted)] }]);
  }
  if (report.faultCount() < minFaults) {
    report.addFindings([{ what: `fewer than ${minFaults} faults`, ids: [String(report.faultCount())] }]);
  }
}

/** The same commands again, under their keys: those that nobody knows about, and some of the others; groups as a whole. */
async function repeat(history: Tortured["history"], clients: Clients, random: Random): Promise<void> {
  const commands = history.commands();
  const unknown = commands.filter((command) => !isAnswered(command) && random.chance(REPEATED_UNANSWERED_CHANCE));
  const answered = Array.from({ length: Math.min(REPEATED_ANSWERED, commands.length) }, () => random.pick(commands));
  for (const command of [...unknown, ...answered.filter(isAnswered)]) {
    const group = groupOf(command.order);
    await clients.pursue(group === "" ? [command] : commands.filter(({ order }) => groupOf(order) === group), random);
  }
}

function throughNetworks(shards: string, networks: readonly FaultyNetwork[]): string {
  return shards
    .split(",")
    .map((text, index) => {
      const url = new URL(text);
      url.port = String(networks[index]?.port);
      return url.toString();
    })
    .join(",");
}

function progressText(counts: Readonly<Record<string, number>>, report: Report): string {
  const answers = Object.entries(counts).map(([kind, count]) => `${kind} ${count}`);
  return `${answers.join(", ")}; faults ${report.faultCount()}`;
}

function table(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${String(count).padStart(5)}  ${name}`)
    .join("\n");
}

async function within(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const late = new AbortController();
  const inTime = await Promise.race([work.then(() => true), pause(timeoutMs, late.signal).then(() => false)]);
  late.abort();
  return inTime;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? (error.stack ?? error.message) : `${error.message} (${String(error.cause)})`;
}
