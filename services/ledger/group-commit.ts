/**
 * Group commit: commands for one shard that arrive while a batch is being written form the next batch.
 *
 * No timer: an idle shard writes a single command at once. Bounded: beyond `maxQueued` a command is refused. Fair: lanes (the
 * single calls of a caller, or one batch call) take turns. An idempotency key appears once in a batch: its twin waits
 * for the next batch and finds the first answered. A command may have several keys.
 *
 * A batch call's lane is ordered: its commands are made in their order, and when one is not made for no fault of its own
 * (the shard was away), those behind it are not made either, so that repeating the call meets the same order again.
 *
 * A command:  queued -> writing -> answered
 *             queued -> answered     refused, its lane broke or its time was over: nothing has happened
 *             writing -> answered    with its outcome, or "unknown" when its time was over
 */
export interface GroupCommitOptions<Command, Outcome> {
  /** Writes a batch; one outcome per command, in order. A rejection is the answer to every command of the batch. */
  readonly write: (batch: readonly Command[]) => Promise<readonly Outcome[]>;
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

/** A batch while it is put together. */
interface OpenBatch<Command, Outcome> {
  readonly tickets: Ticket<Command, Outcome>[];
  readonly keys: Set<string>;
  /** Twins of what is in the batch, from lanes whose order does not matter. */
  readonly twins: Ticket<Command, Outcome>[];
  weight: number;
}

export function groupCommit<Command, Outcome>(
  options: GroupCommitOptions<Command, Outcome>,
): GroupCommit<Command, Outcome> {
  /** Lanes take turns in the order of the map; a lane that gave moves to the end. */
  const lanes = new Map<string, Lane<Command, Outcome>>();
  let waiting = 0;
  let writing: readonly Ticket<Command, Outcome>[] = [];
  let running = false;
  let drainWaiters: (() => void)[] = [];

  function takeBatch(): readonly Ticket<Command, Outcome>[] {
    // A process that was stopped for long must not write what its callers have given up.
    refuseTheLate();
    const batch: OpenBatch<Command, Outcome> = { tickets: [], keys: new Set(), twins: [], weight: 0 };
    let before: number;
    do {
      before = batch.tickets.length;
      for (const [name, lane] of [...lanes]) takeTurn(name, lane, batch);
    } while (batch.tickets.length > before && hasRoom(batch));
    for (const twin of batch.twins.toReversed()) putFirst(twin);
    waiting -= batch.tickets.length;
    return batch.tickets;
  }

  function hasRoom({ tickets, weight }: OpenBatch<Command, Outcome>): boolean {
    return tickets.length < options.maxBatch && weight < options.maxWeight;
  }

  function takeTurn(name: string, lane: Lane<Command, Outcome>, batch: OpenBatch<Command, Outcome>): void {
    const end = Math.min(lane.tickets.length, lane.next + LANE_QUANTUM);
    for (; lane.next < end && hasRoom(batch); lane.next += 1) {
      const ticket = lane.tickets[lane.next] as Ticket<Command, Outcome>;
      if (!takeKeys(options.keysOf(ticket.command), batch.keys)) {
        if (ticket.lane.ordered) break;
        batch.twins.push(ticket);
        continue;
      }
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

  /** Adds the keys, unless one of them is there already; answers whether it did. */
  function takeKeys(keys: string | readonly string[], taken: Set<string>): boolean {
    if (typeof keys === "string") {
      if (taken.has(keys)) return false;
      taken.add(keys);
      return true;
    }
    if (keys.some((key) => taken.has(key))) return false;
    for (const key of keys) taken.add(key);
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
    for (const ticket of writing) if (ticket.deadlineMs <= now) ticket.resolve(options.unknown(ticket.command));
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

  async function writeBatch(): Promise<void> {
    try {
      const outcomes = await options.write(writing.map(({ command }) => command));
      for (const [index, ticket] of writing.entries()) {
        const outcome = outcomes[index] as Outcome;
        ticket.resolve(outcome);
        if (options.breaksLane(outcome)) breakLane(ticket, ({ resolve }) => resolve(outcome));
      }
    } catch (error) {
      for (const ticket of writing) {
        ticket.reject(error);
        breakLane(ticket, ({ reject }) => reject(error));
      }
    }
    writing = [];
  }

  async function run(): Promise<void> {
    running = true;
    const deadlineTimer = setInterval(answerTheLate, DEADLINE_CHECK_MS);
    // What arrives in the same turn of the event loop belongs to the first batch.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (waiting > 0) {
      writing = takeBatch();
      if (writing.length > 0) await writeBatch();
    }
    running = false;
    clearInterval(deadlineTimer);
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
        if (!running) void run();
      });
    },
    waiting: () => waiting,
    drained: () => (running ? new Promise((resolve) => drainWaiters.push(() => resolve())) : Promise.resolve()),
  };
}
