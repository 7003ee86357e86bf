import { hash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Client, type QueryArrayConfig } from "pg";
import { type MakeCall, measureClosedLoop } from "#bench/closed-loop.ts";
import { AMOUNT_MINOR_UNITS, CURRENCY } from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";
import type { DrawPair } from "#bench/pairs.ts";
import { bucketOfUuid, idGenerator, idToUuid } from "#lib/ids.ts";
import { bytesArray, plainArray, textArray } from "#lib/sql-arrays.ts";

/** The raw lines: transfers by one SQL function, through `pg`, without any service (raw-line.sql). */

/**
 * A function call makes
 *   sequence  one transfer, and takes its event's number from a sequence
 *   head      one transfer, with numbers without gaps from the shard's head, as in the ledger
 *   batch     a hundred, set by set, with numbers from the shard's head
 */
export type RawKind = "sequence" | "head" | "batch";

export const RAW_CONNECTIONS: Readonly<Record<RawKind, number>> = {
  sequence: 16,
  head: 16,
  batch: 4,
};
export const RAW_BATCH_TRANSFERS = 100;
const FUNCTION_FILE = new URL("raw-line.sql", import.meta.url);

/** Texts as the ledger wrote them for a transfer between two of the accounts. */
export interface SampleTexts {
  readonly postings: string;
  readonly balances: string;
  readonly payload: string;
}

export interface RawLine {
  measure(kind: RawKind, draw: DrawPair, warmUpMs: number, measureMs: number): Promise<Measurement>;
  /** Transfers that are in its tables. */
  count(): Promise<number>;
}

/** Makes the schema `bench_raw` anew on a shard, with the funded accounts in it. */
export async function openRawLine(
  shardUrl: string,
  accountIds: readonly string[],
  sampleTransferId: string,
): Promise<RawLine> {
  return withConnections(shardUrl, 1, async ([db]) => {
    const sample = await prepareSchema(db as Client, accountIds, sampleTransferId);
    const statements = rawStatements(sample);
    return {
      measure: (kind, draw, warmUpMs, measureMs) =>
        withConnections(shardUrl, RAW_CONNECTIONS[kind], (clients) => {
          const callers = clients.map(
            (client): MakeCall =>
              async () => {
                const { statement, transfers } = statements(kind, draw);
                await client.query(statement);
                return transfers;
              },
          );
          return measureClosedLoop(callers, warmUpMs, measureMs);
        }),
      count: () =>
        withConnections(shardUrl, 1, async ([client]) => {
          const counted = await client?.query<{ count: string }>("select count(*) from bench_raw.transfers");
          return Number(counted?.rows[0]?.count);
        }),
    };
  });
}

/** Makes the schema; answers the texts for its rows. */
async function prepareSchema(
  db: Client,
  accountIds: readonly string[],
  sampleTransferId: string,
): Promise<SampleTexts> {
  await db.query(readFileSync(FUNCTION_FILE, "utf8"));
  await db.query("insert into bench_raw.accounts select * from ledger.accounts where account_id = any ($1)", [
    accountIds.map(idToUuid),
  ]);
  await db.query("analyze bench_raw.accounts");
  const { rows } = await db.query<SampleTexts>(
    `select t.postings::text as postings, t.balances::text as balances, e.payload
       from ledger.transfers t join ledger.events e on e.number = t.event_number where t.transfer_id = $1`,
    [idToUuid(sampleTransferId)],
  );
  const [sample] = rows;
  if (sample === undefined) throw new Error(`the transfer ${sampleTransferId} is not on this shard`);
  return sample;
}

interface RawCall {
  readonly statement: QueryArrayConfig;
  readonly transfers: number;
}

/** The next call of a kind. */
export function rawStatements(sample: SampleTexts): (kind: RawKind, draw: DrawPair) => RawCall {
  const newId = idGenerator(Date.now);
  const accounts = new Map<string, { uuid: string; bucket: number }>();
  const { postings, balances, payload } = sample;
  // The same for each transfer, so they are quoted once.
  const [manyPostings, manyBalances, manyPayloads] = [postings, balances, payload].map((text) =>
    textArray(new Array<string>(RAW_BATCH_TRANSFERS).fill(text)),
  );

  function accountOf(id: string): { uuid: string; bucket: number } {
    let account = accounts.get(id);
    if (account === undefined) {
      const uuid = idToUuid(id);
      account = { uuid, bucket: bucketOfUuid(uuid) };
      accounts.set(id, account);
    }
    return account;
  }

  function drawTransfer(draw: DrawPair) {
    const [debit, credit] = draw().map(accountOf) as [ReturnType<typeof accountOf>, ReturnType<typeof accountOf>];
    const key = randomUUID();
    const id = newId("xfer", debit.bucket);
    return { id, uuid: idToUuid(id), key, fingerprint: hash("sha256", key, "buffer"), debit, credit };
  }

  function one(contiguous: boolean, draw: DrawPair): RawCall {
    const { id, uuid, key, fingerprint, debit, credit } = drawTransfer(draw);
    const values = [contiguous, uuid, id, key, fingerprint, debit.uuid, credit.uuid, AMOUNT_MINOR_UNITS, CURRENCY];
    return callOf("transfer", 1, [...values, debit.bucket, credit.bucket, postings, balances, payload]);
  }

  function many(draw: DrawPair): RawCall {
    const transfers = Array.from({ length: RAW_BATCH_TRANSFERS }, () => drawTransfer(draw));
    return callOf("transfers", RAW_BATCH_TRANSFERS, [
      plainArray(transfers.map(({ uuid }) => uuid)),
      plainArray(transfers.map(({ id }) => id)),
      plainArray(transfers.map(({ key }) => key)),
      bytesArray(transfers.map(({ fingerprint }) => fingerprint)),
      plainArray(transfers.map(({ debit }) => debit.uuid)),
      plainArray(transfers.map(({ credit }) => credit.uuid)),
      AMOUNT_MINOR_UNITS,
      CURRENCY,
      plainArray(transfers.map(({ debit }) => debit.bucket)),
      plainArray(transfers.map(({ credit }) => credit.bucket)),
      manyPostings,
      manyBalances,
      manyPayloads,
    ]);
  }

  return (kind, draw) => (kind === "batch" ? many(draw) : one(kind === "head", draw));
}

function callOf(name: string, transfers: number, values: unknown[]): RawCall {
  const parameters = values.map((_, index) => `$${index + 1}`).join(", ");
  return { statement: { name, text: `select bench_raw.${name}(${parameters})`, values, rowMode: "array" }, transfers };
}

async function withConnections<Value>(
  shardUrl: string,
  count: number,
  use: (clients: readonly Client[]) => Promise<Value>,
): Promise<Value> {
  const clients = Array.from({ length: count }, () => new Client({ connectionString: shardUrl }));
  try {
    await Promise.all(clients.map((client) => client.connect()));
    return await use(clients);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}
