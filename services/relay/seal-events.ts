import type { Client } from "pg";
import { pause } from "#lib/back-off.ts";
import { EMPTY_CHAIN, extendChainBy, HASH_BYTES, hashEvent, SEAL_FORMAT } from "#lib/event-chain.ts";
import { type EventLog, LEDGER_LOG, readEvents, type StoredEvent } from "#lib/events.ts";
import type { Logger } from "#lib/log.ts";
import { alteredEvents, sealedEvents, sealingHeldUp } from "#services/relay/metrics.ts";

/**
 * Seals one log of one shard into its hash chain (lib/event-chain.ts). The position is the last number of the newest
 * seal: what was sealed is known from the seals alone, whatever the relay's cursor says.
 *
 *   not sealed -> sealed       in runs without a hole, each once; the table takes no second seal and no fork
 *   sealed     -> compared     when an event comes again, after a crash say: an event that is not as it was sealed is
 *                              reported, and its seal stays as it is
 *
 * An altered event stops neither the relay nor the sealing of later events: stopping would leave those without protection,
 * and would let whoever alters one event stop all payments. The seal is the evidence, and `audit verify` names the event.
 *
 * A hole in the numbers is never sealed over: sealing is held up before it, and tries again now and then.
 */
export interface Sealer {
  /** Number of the last sealed event; 0: none is. */
  readonly sealedTo: () => bigint;
  /** Seals those of these events (in order, without a hole) that come next, and compares those that are sealed. */
  readonly seal: (events: readonly StoredEvent[]) => Promise<void>;
  /** Reads the events that come next, and seals them. */
  readonly sealNext: () => Promise<SealedNext>;
}

type SealedNext =
  | { readonly kind: "sealed" }
  | { readonly kind: "nothing_left" }
  | { readonly kind: "hole"; readonly missing: bigint; readonly found: bigint };

/** At most so many events in a seal; the table checks it too. */
const MAX_SEAL_EVENTS = 1_000;
/** How long events wait for their seal at most when the relay has to wait for NATS. */
const CATCH_UP_INTERVAL_MS = 1_000;
const HOLE_RETRY_MS = 60_000;
/** So many numbers of altered events stand in one line of the log. */
const MAX_NUMBERS_LOGGED = 20;

/** Takes up where the newest seal ends. */
export async function openSealer(
  db: Client,
  shard: number,
  log: Logger,
  eventLog: EventLog = LEDGER_LOG,
): Promise<Sealer> {
  const labels = { log: eventLog.name, shard };
  let { sealedTo, chain } = await readNewestSeal(db, eventLog);
  let turn: Promise<unknown> = Promise.resolve();

  /** One at a time: each goes on from the position that the one before has left. */
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = turn.then(work);
    turn = result.catch(() => {});
    return result;
  }

  async function sealInTurn(events: readonly StoredEvent[]): Promise<void> {
    const known = events.filter(({ number }) => number <= sealedTo);
    if (known.length > 0) await compare(known);
    for (let start = known.length; start < events.length; start += MAX_SEAL_EVENTS)
      await addSeal(events.slice(start, start + MAX_SEAL_EVENTS));
  }

  async function addSeal(events: readonly StoredEvent[]): Promise<void> {
    const [first, last] = [events[0], events.at(-1)];
    // Events before these have no seal yet: these come later, after those.
    if (first === undefined || last === undefined || first.number !== sealedTo + 1n) return;
    const hashes = Buffer.concat(events.map((event) => hashEvent(shard, event, eventLog)));
    const next = extendChainBy(chain, hashes);
    await db.query({
      name: "add-seal",
      text: `insert into ${eventLog.sealsTable} (first_number, last_number, format, event_hashes, chain_hash)
             values ($1, $2, $3, $4, $5)`,
      values: [first.number.toString(), last.number.toString(), SEAL_FORMAT, hashes, next],
    });
    [sealedTo, chain] = [last.number, next];
    sealedEvents.inc(labels, events.length);
  }

  async function compare(events: readonly StoredEvent[]): Promise<void> {
    const sealed = await readSealedHashes(db, eventLog, events);
    const altered = events.filter(
      (event) => sealed.get(event.number)?.equals(hashEvent(shard, event, eventLog)) !== true,
    );
    if (altered.length === 0) return;
    alteredEvents.inc(labels, altered.length);
    log.error(
      {
        ...labels,
        count: altered.length,
        numbers: altered.slice(0, MAX_NUMBERS_LOGGED).map(({ number }) => `${number}`),
      },
      "events are not as they were sealed: somebody altered the log. Run `npx ledgermesh audit verify`.",
    );
  }

  return {
    sealedTo: () => sealedTo,
    seal: (events) => inTurn(() => sealInTurn(events)),
    sealNext: () =>
      inTurn(async () => {
        const events = await readEvents(db, sealedTo, MAX_SEAL_EVENTS, eventLog);
        const from = sealedTo + 1n;
        const hole = events.findIndex(({ number }, index) => number !== from + BigInt(index));
        await addSeal(hole < 0 ? events : events.slice(0, hole));
        if (hole >= 0) return { kind: "hole", missing: from + BigInt(hole), found: events[hole]?.number ?? 0n };
        return { kind: events.length === 0 ? "nothing_left" : "sealed" };
      }),
  };
}

/**
 * Seals what the relay does not come to by itself, until the signal aborts: while it waits for NATS, and what was published
 * before there were seals.
 */
export async function sealWhatIsLeft(
  sealer: Sealer,
  shard: number,
  log: Logger,
  signal: AbortSignal,
  { name }: EventLog = LEDGER_LOG,
): Promise<void> {
  const labels = { log: name, shard };
  let before = -1n;
  sealingHeldUp.set(labels, 0);
  try {
    while (!signal.aborted) {
      await pause(CATCH_UP_INTERVAL_MS, signal);
      // It moves: the relay is at work.
      const moves = sealer.sealedTo() !== before;
      before = sealer.sealedTo();
      if (moves) continue;
      let next: SealedNext = { kind: "sealed" };
      while (next.kind === "sealed" && !signal.aborted) next = await sealer.sealNext();
      sealingHeldUp.set(labels, next.kind === "hole" ? 1 : 0);
      if (next.kind !== "hole") continue;
      log.error(
        { ...labels, missing: `${next.missing}`, found: `${next.found}` },
        "an event is missing: nothing after it is sealed. Run `npx ledgermesh audit verify`.",
      );
      await pause(HOLE_RETRY_MS, signal);
    }
  } finally {
    sealingHeldUp.remove(labels);
  }
}

async function readNewestSeal(db: Client, { sealsTable }: EventLog): Promise<{ sealedTo: bigint; chain: Buffer }> {
  const { rows } = await db.query<{ last_number: string; chain_hash: Buffer }>(
    `select last_number, chain_hash from ${sealsTable} order by last_number desc limit 1`,
  );
  const [row] = rows;
  return row === undefined
    ? { sealedTo: 0n, chain: EMPTY_CHAIN }
    : { sealedTo: BigInt(row.last_number), chain: row.chain_hash };
}

/** What these events were sealed with, by number. */
async function readSealedHashes(
  db: Client,
  { sealsTable }: EventLog,
  events: readonly StoredEvent[],
): Promise<Map<bigint, Buffer>> {
  const { rows } = await db.query<{ first_number: string; event_hashes: Buffer }>(
    `select first_number, event_hashes from ${sealsTable} where last_number >= $1 and first_number <= $2`,
    [events[0]?.number.toString(), events.at(-1)?.number.toString()],
  );
  const hashes = new Map<bigint, Buffer>();
  for (const { first_number, event_hashes } of rows) {
    const first = BigInt(first_number);
    for (let start = 0; start < event_hashes.length; start += HASH_BYTES)
      hashes.set(first + BigInt(start / HASH_BYTES), event_hashes.subarray(start, start + HASH_BYTES));
  }
  return hashes;
}
