/**
 * Group commit: commands for one shard that arrive while a batch is being written form the next batch.
 *
 * No timer: an idle shard writes a single command at once. Bounded: beyond `maxQueued` a command is refused. Fair: each lane
 * (a caller, or one big batch call) gives the same number of commands to a batch. Order is kept within a lane.
 * An idempotency key appears once in a batch: its twin waits for the next batch and finds the first answered.
 *
 * A command:  queued -> writing -> answered
 *             queued -> answered     refused or its time was over: nothing has happened
 *             writing -> answered    with its outcome, or "unknown" when its time was over
 */
export interface GroupCommitOptions<Command, Outcome> {
  /** Writes a batch; one outcome per command, in order. A rejection is the answer to every command of the batch. */
  readonly write: (batch: readonly Command[]) => Promise<readonly Outcome[]>;
  /** What must not appear twice in a batch. */
  readonly keyOf: (command: Command) => string;
  readonly maxBatch: number;
  readonly maxQueued: number;
  /** Its time was over while it waited: nothing has happened. */
  readonly tooLate: () => Error;
  /** Its time was over while it was being written: it may have happened. */
  readonly unknown: (command: Command) => Outcome;
  /** There are `maxQueued` waiting already. */
  readonly full: (waiting: number) => Error;
}

export interface GroupCommit<Command, Outcome> {
  /** Resolves with the outcome; rejects when nothing has happened. `deadlineMs` is by `performance.now()`. */
  submit(command: Command, lane: string, deadlineMs: number): Promise<Outcome>;
  /** How many commands wait. */
  waiting(): number;
  /** Resolves when everything accepted so far has been answered. */
  drained(): Promise<void>;
}

/** A lane gives so many at a turn: small, so that a batch call of thousands leaves room for single calls. */
const LANE_QUANTUM = 16;
const DEADLINE_CHECK_MS = 100;

interface Ticket<Command, Outcome> {
  readonly command: Command;
  readonly deadlineMs: number;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** The tickets from `next` on are waiting. */
interface Lane<Command, Outcome> {
  readonly tickets: Ticket<Command, Outcome>[];
  next: number;
}

export function groupCommit<Command, Outcome>(
  options: GroupCommitOptions<Command, Outcome>,
): GroupCommit<Command, Outcome> {
  /** Lanes take turns in the order of the map; a lane that gave moves to the end. */
  const lanes = new Map<string, Lane<Command, Outcome>>();
  let waiting = 0;
  let writing: Ticket<Command, Outcome>[] = [];
  let running = false;
  let drainWaiters: (() => void)[] = [];

  function takeBatch(): Ticket<Command, Outcome>[] {
    const batch: Ticket<Command, Outcome>[] = [];
    const keys = new Set<string>();
    let before: number;
    do {
      before = batch.length;
      for (const [name, lane] of [...lanes]) takeTurn(name, lane, batch, keys);
    } while (batch.length > before && batch.length < options.maxBatch);
    waiting -= batch.length;
    return batch;
  }

  function takeTurn(
    name: string,
    lane: Lane<Command, Outcome>,
    batch: Ticket<Command, Outcome>[],
    keys: Set<string>,
  ): void {
    const end = Math.min(lane.tickets.length, lane.next + Math.min(LANE_QUANTUM, options.maxBatch - batch.length));
    for (; lane.next < end; lane.next += 1) {
      const ticket = lane.tickets[lane.next] as Ticket<Command, Outcome>;
      const key = options.keyOf(ticket.command);
      if (keys.has(key)) break;
      keys.add(key);
      batch.push(ticket);
    }
    lanes.delete(name);
    if (lane.next < lane.tickets.length) lanes.set(name, lane);
  }

  function answerTheLate(): void {
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
    // A promise settles once: what the write says later is dropped.
    for (const ticket of writing) if (ticket.deadlineMs <= now) ticket.resolve(options.unknown(ticket.command));
  }

  async function run(): Promise<void> {
    running = true;
    const deadlineTimer = setInterval(answerTheLate, DEADLINE_CHECK_MS);
    // What arrives in the same turn of the event loop belongs to the first batch.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (waiting > 0) {
      writing = takeBatch();
      try {
        const outcomes = await options.write(writing.map(({ command }) => command));
        for (const [index, ticket] of writing.entries()) ticket.resolve(outcomes[index] as Outcome);
      } catch (error) {
        for (const ticket of writing) ticket.reject(error);
      }
      writing = [];
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
        const ticket = { command, deadlineMs, resolve, reject };
        const open = lanes.get(lane);
        if (open === undefined) lanes.set(lane, { tickets: [ticket], next: 0 });
        else open.tickets.push(ticket);
        waiting += 1;
        if (!running) void run();
      });
    },
    waiting: () => waiting,
    drained: () => (running ? new Promise((resolve) => drainWaiters.push(() => resolve())) : Promise.resolve()),
  };
}
