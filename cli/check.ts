import { type Cut, readCut } from "#cli/check-cut.ts";
import { openShardReader, type ShardReader } from "#cli/check-database.ts";
import { checkBalances, checkSums } from "#cli/check-entries.ts";
import { INVARIANTS, type Invariant, type Notebook, type Outcome, openNotebook } from "#cli/check-findings.ts";
import { checkHeld } from "#cli/check-held.ts";
import { checkKeys } from "#cli/check-keys.ts";
import { type LogPage, walkLog } from "#cli/check-log.ts";
import { checkPublished } from "#cli/check-published.ts";
import { checkQuotes } from "#cli/check-quotes.ts";
import { checkRefunds } from "#cli/check-refunds.ts";
import { compareShards } from "#cli/check-shards.ts";
import { checkToldOnce } from "#cli/check-untold.ts";
import { Interrupted } from "#cli/patience.ts";
import { formatCount, type Screen } from "#cli/progress.ts";
import { readLogEnd } from "#cli/read-log.ts";
import { whyNotShard, whyUnreadable } from "#cli/shard-connections.ts";
import { verifyEvents } from "#cli/verify-events.ts";
import { Problem } from "#infra/local/problem.ts";

/** `ledgermesh check`: the invariants of a live system, one shard after the other. It only reads, and locks nobody out. */
export interface CheckResult {
  /** By shard, then by invariant. */
  readonly outcomes: readonly Outcome[];
  readonly durationMs: number;
}

export interface CheckOptions {
  /** Connection strings of all shards, shard 1 first. */
  readonly shards: readonly string[];
  /** Only this one; the others are asked about its transfers. */
  readonly shard: number | undefined;
  readonly only: readonly Invariant[];
  readonly signal: AbortSignal;
  readonly screen: Screen;
}

export const ALL_INVARIANTS = Object.keys(INVARIANTS).map(Number) as Invariant[];

/** Throws a Problem when there is no such shard, Interrupted when it is stopped. */
export async function check({ shards, shard, only, signal, screen }: CheckOptions): Promise<CheckResult> {
  if (shard !== undefined && shard > shards.length)
    throw new Problem(`There is no shard ${shard}: the shards are 1 to ${shards.length}.`);
  const startedMs = performance.now();
  const readers = shards.map((connectionString, index) => openShardReader(connectionString, index + 1, signal));
  try {
    const cuts = new Map<number, Cut | string>();
    for (const [index, reader] of readers.entries()) {
      cuts.set(
        reader.shard,
        await readCut(reader).then(
          (cut) => whyNotShard(reader.shard, shards.length, cut) ?? cut,
          (error: unknown) => whyUnreadable(shards[index] as string, error),
        ),
      );
    }
    const reachable = new Map(
      readers.filter((reader) => typeof cuts.get(reader.shard) === "object").map((reader) => [reader.shard, reader]),
    );
    const outcomes: Outcome[] = [];
    for (const [index, reader] of readers.entries()) {
      if (shard !== undefined && reader.shard !== shard) continue;
      const notebooks = new Map(only.map((invariant) => [invariant, openNotebook(reader.shard, invariant)]));
      const explain = (error: unknown) => whyUnreadable(shards[index] as string, error);
      const cut = cuts.get(reader.shard);
      if (typeof cut === "object")
        await checkShard(reader, cut, reachable, notebooks, progressWords(screen, reader.shard), explain);
      else for (const notebook of notebooks.values()) notebook.couldNot(cut ?? "");
      outcomes.push(...[...notebooks.values()].map((notebook) => notebook.outcome()));
    }
    return { outcomes, durationMs: performance.now() - startedMs };
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
  }
}

async function checkShard(
  reader: ShardReader,
  cut: Cut,
  reachable: ReadonlyMap<number, ShardReader>,
  notebooks: ReadonlyMap<Invariant, Notebook>,
  progress: Progress,
  explain: (error: unknown) => string,
): Promise<void> {
  /** What one check cannot be done for does not stop the others. */
  async function on(invariant: Invariant, work: (notebook: Notebook) => Promise<void>): Promise<void> {
    const notebook = notebooks.get(invariant);
    if (notebook === undefined || notebook.outcome().impossible !== undefined) return;
    progress.begin(invariant);
    try {
      await work(notebook);
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      notebook.couldNot(explain(error));
    }
  }

  const [entries, events] = [cut.entries, Number(cut.lastEvent)];
  await on(1, (notebook) => checkSums(reader, notebook, entries));
  await on(2, (notebook) => checkBalances(reader, notebook, (done) => progress.advance(done, entries, "entries")));
  await on(3, (notebook) => checkHeld(reader, notebook, cut.accounts));
  await on(5, async (notebook) => {
    await checkKeys(reader, notebook, events);
    await checkQuotes(reader, cut, reachable, notebook);
  });
  await on(6, (notebook) => checkRefunds(reader, cut, reachable, notebook));

  // One walk along the log serves two invariants, and what stops one of them does not stop the other.
  const comparing = notebooks.get(4) ?? openNotebook(reader.shard, 4);
  const comparison = compareShards(reader, cut, reachable, comparing);
  const comparePage = (page: LogPage) => on(4, () => comparison.onPage(page));
  const walk = (notebook: Notebook) =>
    walkLog(reader, cut, notebook, comparePage, (done) => progress.advance(done, events, "events"));
  if (notebooks.has(7)) await on(7, walk);
  else await on(4, () => walk(openNotebook(reader.shard, 7)));
  const unwalked = notebooks.get(7)?.outcome().impossible;
  if (unwalked !== undefined) comparing.couldNot(unwalked);
  await on(4, () => comparison.finish());
  await on(7, async (notebook) => {
    await checkToldOnce(reader, notebook, cut);
    await checkPublished(reader, notebook, cut);
  });
  await on(8, (notebook) => checkSeals(reader, notebook, progress));
}

/** Invariant 8 is the work of `ledgermesh audit verify`. */
async function checkSeals(reader: ShardReader, notebook: Notebook, progress: Progress): Promise<void> {
  let before = 0;
  const onProgress = (done: bigint, of: bigint) => {
    progress.advance(Number(done) - before, Number(of), "events");
    before = Number(done);
  };
  const end = await readLogEnd(reader.db);
  const verification = await verifyEvents(reader.db, end, { anchors: [], signal: reader.signal, onProgress });
  const { events, seals, problems, problemCount } = verification;
  notebook.looked("events", Number(events));
  notebook.looked("seals", Number(seals));
  for (const { reason, firstNumber, lastNumber, message } of problems) {
    const ids = { first_event_number: firstNumber.toString(), last_event_number: lastNumber.toString() };
    notebook.found({ reason, ids, expected: "as it was sealed", found: message });
  }
  notebook.foundMore(problemCount - problems.length);
}

/** A word now and then once it takes longer than a moment. */
interface Progress {
  readonly begin: (invariant: Invariant) => void;
  readonly advance: (more: number, of: number, what: string) => void;
}

const SILENT_MS = 2_000;
/** Of the time so far: a long check speaks less often. */
const PROGRESS_SHARE = 0.2;

function progressWords(screen: Screen, shard: number): Progress {
  const startedMs = performance.now();
  let dueMs = startedMs + SILENT_MS;
  let label = "";
  let done = 0;
  function say(text: string): void {
    const nowMs = performance.now();
    if (nowMs < dueMs) return;
    dueMs = nowMs + Math.max(SILENT_MS, PROGRESS_SHARE * (nowMs - startedMs));
    screen.write(`${label}${text}\n`);
  }
  return {
    begin(invariant) {
      const next = `shard ${shard}, ${invariant} ${INVARIANTS[invariant]}`;
      if (next === label) return;
      [label, done] = [next, 0];
      say("");
    },
    advance(more, of, what) {
      done += more;
      const percent = of === 0 ? 100 : Math.min(100, Math.floor((100 * done) / of));
      say(`: ${formatCount(done)} of ${formatCount(of)} ${what} (${percent} %)`);
    },
  };
}
