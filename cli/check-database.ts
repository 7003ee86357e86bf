import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseError, Pool, type QueryConfig, type QueryResultRow } from "pg";
import { MAX_FINDINGS, type Notebook } from "#cli/check-findings.ts";
import { Interrupted } from "#cli/patience.ts";
import { type IdPrefix, uuidToId } from "#lib/ids.ts";

/**
 * How `ledgermesh check` reads a live shard. It takes no lock that a payment could wait for, and keeps no transaction open:
 * a snapshot that lives for minutes would keep Postgres from clearing away the old versions of hot rows, and every payment
 * would walk over them. Each statement has its own snapshot, and each check is so made that this is enough:
 *
 *   - what is compared within one statement is of one instant;
 *   - entries, transfers and events never change, so pages of them may be read one after the other;
 *   - where a page is held against rows that do change, the order of reading says what may be seen (check-shards.ts).
 *
 * Statements that must look at all rows at once are cut into slices by a hash, so that none sorts more than SLICE_ROWS.
 */
export interface ShardReader {
  readonly shard: number;
  readonly db: Pool;
  readonly signal: AbortSignal;
  /** Runs a statement; waits a little and tries again when a lock cannot be had or the connection was lost. */
  readonly ask: <Row extends QueryResultRow>(query: QueryConfig) => Promise<Row[]>;
  /** The same, for rows that are many: each an array, in the order of the columns. */
  readonly askMany: <Row extends unknown[]>(query: QueryConfig) => Promise<Row[]>;
  readonly close: () => Promise<void>;
}

/** One reads events ahead, two look up what belongs to a page of them. */
const CONNECTIONS = 3;
const CONNECT_TIMEOUT_MS = 5_000;
/** Below the role's own bound, so that what is said is ours. */
const STATEMENT_TIMEOUT_MS = 240_000;
/** A server that went away without a word. */
const QUERY_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 10_000;
/** Only a month's partition that is being made locks readers out, for a moment. */
const LOCK_TIMEOUT_MS = 5_000;
/** Of one sort or hash table; what is beyond it goes to temporary files. */
const WORK_MEM_MB = 32;
const MAX_TRIES = 3;
const PAUSE_MS = 1_000;
/** Lock not available, query cancelled by a conflict, too many connections, server starting or stopping. */
const PASSING_CODES = /^(55P03|40001|40P01|53300|57P0[123]|08)/;

export function openShardReader(connectionString: string, shard: number, signal: AbortSignal): ShardReader {
  const db = new Pool({
    connectionString,
    max: CONNECTIONS,
    application_name: "check",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    // The processors belong to the payments: one for a statement is enough.
    options: `-c work_mem=${WORK_MEM_MB}MB -c hash_mem_multiplier=1 -c max_parallel_workers_per_gather=0`,
  });
  // What a lost connection breaks off says so itself.
  db.on("error", () => {});
  async function patiently<Result>(query: () => Promise<Result>): Promise<Result> {
    for (let tries = 1; ; tries += 1) {
      if (signal.aborted) throw new Interrupted("Stopped.");
      try {
        return await query();
      } catch (error) {
        if (tries === MAX_TRIES || !isPassing(error)) throw error;
        await sleep(PAUSE_MS);
      }
    }
  }
  return {
    shard,
    db,
    signal,
    ask: async <Row extends QueryResultRow>(query: QueryConfig) => (await patiently(() => db.query<Row>(query))).rows,
    askMany: async <Row extends unknown[]>(query: QueryConfig) =>
      (await patiently(() => db.query<Row>({ ...query, rowMode: "array" }))).rows,
    close: () => db.end(),
  };
}

function isPassing(error: unknown): boolean {
  if (error instanceof DatabaseError) return PASSING_CODES.test(error.code ?? "");
  // A connection that was there and broke; one that is refused is no surprise a second later either.
  const { code, message } = error as Error & { code?: string };
  return code === "ECONNRESET" || code === "EPIPE" || message.startsWith("Connection terminated");
}

const SLICE_ROWS = 4_000_000;

/** One condition per slice, over a column of uuids: so many that none has many more than SLICE_ROWS rows. */
export function slicesOf(column: string, rows: number): string[] {
  // A power of two, so that the bits of the hash choose.
  let slices = 1;
  while (slices * SLICE_ROWS < rows) slices *= 2;
  return Array.from({ length: slices }, (_, slice) => `uuid_hash(${column}) & ${slices - 1} = ${slice}`);
}

/** Rows that are brought here and matched by an id which one table has as UUID, and another as text of the API. */
const SLICE_MATCHED_ROWS = 100_000;
/** Of a TypeID: the last character has the lowest five bits. */
const TYPE_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

export interface IdSlice {
  /** A condition over a column of UUIDs. */
  readonly ofUuid: (column: string) => string;
  /** The same one over ids as text. */
  readonly ofText: (expression: string) => string;
}

/** So many slices that none has many more than SLICE_MATCHED_ROWS rows; at most 32. */
export function idSlicesOf(rows: number): IdSlice[] {
  let slices = 1;
  while (slices * SLICE_MATCHED_ROWS < rows && slices < TYPE_ID_ALPHABET.length) slices *= 2;
  return Array.from({ length: slices }, (_, slice) => ({
    ofUuid: (column) => `get_byte(uuid_send(${column}), 15) & ${slices - 1} = ${slice}`,
    ofText: (expression) => {
      const letters = [...TYPE_ID_ALPHABET].filter((_letter, index) => (index & (slices - 1)) === slice);
      return `right(${expression}, 1) in (${letters.map((letter) => `'${letter}'`).join(", ")})`;
    },
  }));
}

/** A row that is a finding. Statements answer the first MAX_FINDINGS of them, each with the number of all. */
export interface OffenderRow extends QueryResultRow {
  readonly reason: string;
  /** UUIDs by the names of columns. */
  readonly ids: Readonly<Record<string, string | number>>;
  readonly expected: string;
  readonly found: string;
  readonly total: string;
}

/** Wraps a statement that answers reason, ids (json), expected and found of each offender. */
export function offendersOf(sql: string): string {
  return `select reason, ids, expected, found, count(*) over () as total from (${sql}) offenders limit ${MAX_FINDINGS}`;
}

export function noteOffenders(notebook: Notebook, rows: readonly OffenderRow[]): void {
  for (const { reason, ids, expected, found } of rows) notebook.found({ reason, ids: shownIds(ids), expected, found });
  notebook.foundMore(Number(rows[0]?.total ?? 0) - rows.length);
}

const PREFIXES: Readonly<Record<string, IdPrefix>> = { account_id: "acct", transfer_id: "xfer", hold_id: "hold" };

/** Ids as people know them. */
function shownIds(ids: OffenderRow["ids"]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(ids).map(([name, value]) => {
      const prefix = PREFIXES[name];
      return [name, prefix === undefined ? String(value) : uuidToId(prefix, String(value))];
    }),
  );
}
