/**
 * Group commit: commands for one shard that arrive while a batch is being written form the next batch.
 *
 * No timer: an idle shard writes a single command at once. Bounded: beyond `maxQueued` a command is refused. Fair: lanes (the
 * single calls of a caller, or one batch call) take turns. An idempotency key is in one batch under way at a time: its twin
 * waits for the end of that batch and finds the first answered. A command may have several keys.
 *
 * A shard has several writers, so that Postgres writes one batch while another is evaluated here; the locks of Postgres keep
 * the batches apart. A second batch begins only when so much waits that it is worth its round trips.
 *
 * A batch call's lane is ordered: its commands are made in their order, one batch at a time, and when one is not made for no
 * fault of its own (the shard was away), those behind it are not made either, so that repeating the call meets the same order
 * again.
 *
 * A command:  queued -> writing -> answered
 *             queued -> answered     refused, its lane broke or its time was over: nothing has happened
 *             writing -> answered    with its outcome, or "unknown" when its time was over
 */
export interface GroupCommitOptions<Command, Outcome> {
  /**
   * Each writes a batch at a time, beside the others; one outcome per command, in order. A rejection is the answer to every
   * command of the batch.
   */
  readonly writers: readonly ((batch: readonly Command[]) => Promise<readonly Outcome[]>)[];
  /** While a batch is under way another one begins only when so many commands wait. */
  readonly minOverlap: number;
  /** What must not appear twice in a batch: one for most commands. */
  readonly keysOf: (command: Command) => string | readonly string[];
  /** How much of a batch a command takes, 1 or more. */
  readonly weightOf: (command: Command) => number;
  /** A batch holds so many commands at most, and stops at so much weight. */
  readonly maxBatch: number;
  readonly maxWeight: number;
  readonly maxQueued: number;
  /** Its time was over while it waited: nothing has happened. */
  readonly tooLate: () => Error;
  /** Its time was over while it was being written: it may have happened. */
  readonly unknown: (command: Command) => Outcome;
  /** There are `maxQueued` waiting already. */
  readonly full: (waiting: number) => Error;
  /** Whether an outcome ends its ordered lane. */
  readonly breaksLane: (outcome: Outcome) => boolean;
}

export interface LaneName {
  readonly name: string;
  readonly ordered: boolean;
}

export interface GroupCommit<Command, Outcome> {
  /** Resolves with the outcome; rejects when nothing has happened. `deadlineMs` is by `performance.now()`. */
  submit(command: Command, lane: LaneName, deadlineMs: number): Promise<Outcome>;
  /** How many commands wait. */
  waiting(): number;
  /** Resolves when everything accepted so far has been answered. */
  drained(): Promise<void>;
}

/** A lane gives so many at a turn: small, so that a batch call of thousands leaves room for single calls. */
const LANE_QUANTUM = 16;
const DEADLINE_CHECK_MS = 100;
/** Tickets that were taken are let go in so large pieces. */
const COMPACT_TICKETS = 1_024;

interface Ticket<Command, Outcome> {
  readonly command: Command;
  readonly lane: LaneName;
  readonly deadlineMs: number;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** The tickets from `next` on are waiting. */
interface Lane<Command, Outcome> {
  tickets: Ticket<Command, Outcome>[];
  next: number;
}

/** A batch: the keys of its commands, and how much it weighs. */
interface Batch<Command, Outcome> {
  readonly tickets: Ticket<Command, Outcome>[];
  readonly keys: string[];
  weight: number;
}

export function groupCommit<Command, Outcome>(
  options: GroupCommitOptions<Command, Outcome>,
): GroupCommit<Command, Outcome> {
  /** Lanes take turns in the order of the map; a lane that gave moves to the end. */
  const lanes = new Map<string, Lane<Command, Outcome>>();
  let waiting = 0;
  const underWay = new Set<Batch<Command, Outcome>>();
  const idleWriters = [...options.writers];
  /** Of all batches under way. */
  const keysUnderWay = new Set<string>();
  const orderedLanesUnderWay = new Set<string>();
  let deadlineTimer: NodeJS.Timeout | undefined;
  let isScheduled = false;
  let drainWaiters: (() => void)[] = [];

  function takeBatch(): Batch<Command, Outcome> {
    // A process that was stopped for long must not write what its callers have given up.
    refuseTheLate();
    const batch: Batch<Command, Outcome> = { tickets: [], keys: [], weight: 0 };
    const twins: Ticket<Command, Outcome>[] = [];
    // Lanes that are at work in another batch wait for its end; those of this one go on giving.
    const closed = new Set(orderedLanesUnderWay);
    let before: number;
    do {
      before = batch.tickets.length;
      for (const [name, lane] of [...lanes]) if (!closed.has(name)) takeTurn(name, lane, batch, twins);
    } while (batch.tickets.length > before && hasRoom(batch));
    for (const twin of twins.toReversed()) putFirst(twin);
    waiting -= batch.tickets.length;
    return batch;
  }

  function hasRoom({ tickets, weight }: Batch<Command, Outcome>): boolean {
    return tickets.length < options.maxBatch && weight < options.maxWeight;
  }

  /** `twins`: of commands that are under way, from lanes whose order does not matter. */
  function takeTurn(
    name: string,
    lane: Lane<Command, Outcome>,
    batch: Batch<Command, Outcome>,
    twins: Ticket<Command, Outcome>[],
  ): void {
    const end = Math.min(lane.tickets.length, lane.next + LANE_QUANTUM);
    for (; lane.next < end && hasRoom(batch); lane.next += 1) {
      const ticket = lane.tickets[lane.next] as Ticket<Command, Outcome>;
      if (!takeKeys(options.keysOf(ticket.command), batch)) {
        if (ticket.lane.ordered) break;
        twins.push(ticket);
        continue;
      }
      if (ticket.lane.ordered) orderedLanesUnderWay.add(name);
      batch.tickets.push(ticket);
      batch.weight += options.weightOf(ticket.command);
    }
    lanes.delete(name);
    if (lane.next === lane.tickets.length) return;
    lanes.set(name, lane);
    if (lane.next < COMPACT_TICKETS) return;
    lane.tickets = lane.tickets.slice(lane.next);
    lane.next = 0;
  }

  /** Takes the keys for the batch, unless one of them is under way; answers whether it did. */
  function takeKeys(keys: string | readonly string[], batch: Batch<Command, Outcome>): boolean {
    const all = typeof keys === "string" ? [keys] : keys;
    if (all.some((key) => keysUnderWay.has(key))) return false;
    for (const key of all) {
      keysUnderWay.add(key);
      batch.keys.push(key);
    }
    return true;
  }

  function putFirst(ticket: Ticket<Command, Outcome>): void {
    const lane = lanes.get(ticket.lane.name);
    if (lane === undefined) lanes.set(ticket.lane.name, { tickets: [ticket], next: 0 });
    else if (lane.next > 0) lane.tickets[--lane.next] = ticket;
    else lane.tickets.unshift(ticket);
  }

  function answerTheLate(): void {
    refuseTheLate();
    const now = performance.now();
    // A promise settles once: what the write says later is dropped.
    for (const { tickets } of underWay) {
      for (const ticket of tickets) if (ticket.deadlineMs <= now) ticket.resolve(options.unknown(ticket.command));
    }
  }

  function refuseTheLate(): void {
    const now = performance.now();
    for (const [name, lane] of lanes) {
      const queued = lane.tickets.slice(lane.next);
      const inTime = queued.filter((ticket) => ticket.deadlineMs > now);
      if (inTime.length === queued.length) continue;
      for (const ticket of queued) if (ticket.deadlineMs <= now) ticket.reject(options.tooLate());
      waiting -= queued.length - inTime.length;
      if (inTime.length === 0) lanes.delete(name);
      else lanes.set(name, { tickets: inTime, next: 0 });
    }
  }

  /** Ends an ordered lane: what waits in it is answered as the command that broke it. */
  function breakLane(
    { lane: { name, ordered } }: Ticket<Command, Outcome>,
    answer: (ticket: Ticket<Command, Outcome>) => void,
  ) {
    const lane = lanes.get(name);
    if (!ordered || lane === undefined) return;
    const queued = lane.tickets.slice(lane.next);
    lanes.delete(name);
    waiting -= queued.length;
    for (const ticket of queued) answer(ticket);
  }

  type Write = (typeof options.writers)[number];

  async function writeBatch(write: Write, batch: Batch<Command, Outcome>): Promise<void> {
    const { tickets } = batch;
    try {
      const outcomes = await write(tickets.map(({ command }) => command));
      for (const [index, ticket] of tickets.entries()) {
        const outcome = outcomes[index] as Outcome;
        ticket.resolve(outcome);
        if (options.breaksLane(outcome)) breakLane(ticket, ({ resolve }) => resolve(outcome));
      }
    } catch (error) {
      for (const ticket of tickets) {
        ticket.reject(error);
        breakLane(ticket, ({ reject }) => reject(error));
      }
    }
    underWay.delete(batch);
    for (const key of batch.keys) keysUnderWay.delete(key);
    for (const { lane } of tickets) if (lane.ordered) orderedLanesUnderWay.delete(lane.name);
    idleWriters.push(write);
    startBatches();
  }

  /** Gives idle writers what waits. */
  function startBatches(): void {
    isScheduled = false;
    while (waiting > 0 && idleWriters.length > 0 && (underWay.size === 0 || waiting >= options.minOverlap)) {
      const batch = takeBatch();
      // Everything that waits has to wait for a batch under way.
      if (batch.tickets.length === 0) break;
      underWay.add(batch);
      void writeBatch(idleWriters.pop() as Write, batch);
    }
    if (waiting > 0 || underWay.size > 0) {
      deadlineTimer ??= setInterval(answerTheLate, DEADLINE_CHECK_MS);
      return;
    }
    clearInterval(deadlineTimer);
    deadlineTimer = undefined;
    for (const resolve of drainWaiters) resolve();
    drainWaiters = [];
  }

  return {
    submit(command, lane, deadlineMs) {
      if (waiting >= options.maxQueued) return Promise.reject(options.full(waiting));
      return new Promise((resolve, reject) => {
        const ticket = { command, lane, deadlineMs, resolve, reject };
        const open = lanes.get(lane.name);
        if (open === undefined) lanes.set(lane.name, { tickets: [ticket], next: 0 });
        else open.tickets.push(ticket);
        waiting += 1;
        if (isScheduled || idleWriters.length === 0 || (underWay.size > 0 && waiting < options.minOverlap)) return;
        isScheduled = true;
        // What arrives in the same turn of the event loop belongs to the same batch.
        setImmediate(startBatches);
      });
    },
    waiting: () => waiting,
    drained: () =>
      waiting === 0 && underWay.size === 0
        ? Promise.resolve()
        : new Promise((resolve) => drainWaiters.push(() => resolve())),
  };
}
