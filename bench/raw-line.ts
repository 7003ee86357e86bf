import { hash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Client } from "pg";
import type { Funded } from "#bench/fund-accounts.ts";
import type { Measurement } from "#bench/measurement.ts";
import { randomPair } from "#bench/random-pair.ts";
import { bucketOfUuid, idGenerator, idToUuid } from "#lib/ids.ts";

/** The raw line: transfers by one SQL function each, through `pg`, without any service (raw-line.sql). */

const CONNECTIONS = 16;
const FUNCTION_FILE = new URL("raw-line.sql", import.meta.url);
const AMOUNT_MINOR_UNITS = 1;
const FAILURES_SHOWN = 3;

/** Texts as the ledger wrote them for a transfer between two of the accounts. */
interface SampleTexts {
  readonly postings: string;
  readonly balances: string;
  readonly payload: string;
}

export interface RawLine {
  /** `contiguous`: event numbers from the shard's head, as in the ledger; otherwise from a sequence. */
  measure(contiguous: boolean, warmUpMs: number, measureMs: number): Promise<Measurement>;
  /** Transfers that are in its tables. */
  count(): Promise<number>;
}

/** Makes the schema `bench_raw` anew on a shard, with the funded accounts in it. */
export async function openRawLine(shardUrl: string, funded: Funded, sampleTransferId: string): Promise<RawLine> {
  const db = new Client({ connectionString: shardUrl });
  await db.connect();
  try {
    await db.query(readFileSync(FUNCTION_FILE, "utf8"));
    await db.query("insert into bench_raw.accounts select * from ledger.accounts where account_id = any ($1)", [
      funded.accountIds.map(idToUuid),
    ]);
    await db.query("analyze bench_raw.accounts");
    const { rows } = await db.query<SampleTexts>(
      `select t.postings::text as postings, t.balances::text as balances, e.payload
         from ledger.transfers t join ledger.events e on e.number = t.event_number where t.transfer_id = $1`,
      [idToUuid(sampleTransferId)],
    );
    const [sample] = rows;
    if (sample === undefined) throw new Error(`the transfer ${sampleTransferId} is not on this shard`);
    return {
      measure: (contiguous, warmUpMs, measureMs) => measure(shardUrl, funded, sample, contiguous, warmUpMs, measureMs),
      count: async () => {
        const client = new Client({ connectionString: shardUrl });
        await client.connect();
        const counted = await client.query<{ count: string }>("select count(*) from bench_raw.transfers");
        await client.end();
        return Number(counted.rows[0]?.count);
      },
    };
  } finally {
    await db.end();
  }
}

async function measure(
  shardUrl: string,
  funded: Funded,
  sample: SampleTexts,
  contiguous: boolean,
  warmUpMs: number,
  measureMs: number,
): Promise<Measurement> {
  const accounts = funded.accountIds.map((id) => ({ uuid: idToUuid(id), bucket: bucketOfUuid(idToUuid(id)) }));
  const newId = idGenerator(Date.now);
  const clients = await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const client = new Client({ connectionString: shardUrl });
      await client.connect();
      return client;
    }),
  );
  const measureFromMs = performance.now() + warmUpMs;
  const endMs = measureFromMs + measureMs;
  const latenciesUs: number[] = [];
  const firstFailures: string[] = [];
  let acknowledged = 0;
  let failed = 0;

  async function work(client: Client): Promise<void> {
    for (let sentMs = performance.now(); sentMs < endMs; sentMs = performance.now()) {
      const [debit, credit] = randomPair(accounts);
      const key = randomUUID();
      const transferId = newId("xfer", debit.bucket);
      try {
        await client.query({
          name: "transfer",
          text: "select bench_raw.transfer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
          values: [
            contiguous,
            idToUuid(transferId),
            transferId,
            key,
            hash("sha256", key, "buffer"),
            debit.uuid,
            credit.uuid,
            AMOUNT_MINOR_UNITS,
            funded.currency,
            debit.bucket,
            credit.bucket,
            sample.postings,
            sample.balances,
            sample.payload,
          ],
          rowMode: "array",
        });
      } catch (error) {
        failed += 1;
        if (failed <= FAILURES_SHOWN) firstFailures.push(String(error));
        continue;
      }
      const answeredMs = performance.now();
      acknowledged += 1;
      if (answeredMs > measureFromMs && answeredMs < endMs) latenciesUs.push((answeredMs - sentMs) * 1000);
    }
  }

  try {
    await Promise.all(clients.map(work));
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
  return { acknowledged, failed, firstFailures, measuredMs: measureMs, latenciesUs: Uint32Array.from(latenciesUs) };
}
