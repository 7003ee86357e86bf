import { Client } from "pg";
import { HOST, SUPERUSER_ROLE } from "#infra/local/endpoints.ts";

/** One look at a part: undefined when it is ready, otherwise what is still missing, in a few words. */
export type ReadinessCheck = () => Promise<string | undefined>;

const LOOK_TIMEOUT_MS = 2_000;

/** Ready when the URL answers with a success. */
export function httpCheck(url: string): ReadinessCheck {
  return async () => {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(LOOK_TIMEOUT_MS) });
      const text = await response.text();
      return response.ok ? undefined : `${url} answers ${response.status} ${text.trim().slice(0, 200)}`;
    } catch (error) {
      return `${url} does not answer (${reasonOf(error)})`;
    }
  };
}

/** Ready when the superuser can log in and query. */
export function postgresCheck(port: number, password: string): ReadinessCheck {
  return async () => {
    try {
      await withPostgres(port, password, (db) => db.query("select 1"));
      return undefined;
    } catch (error) {
      return `a login on port ${port} fails (${reasonOf(error)})`;
    }
  };
}

/** Creates the database when it is not there. */
export async function ensureDatabase(port: number, password: string, name: string): Promise<void> {
  await withPostgres(port, password, async (db) => {
    const { rowCount } = await db.query("select from pg_database where datname = $1", [name]);
    if (rowCount === 0) await db.query(`create database ${db.escapeIdentifier(name)}`);
  });
}

async function withPostgres(port: number, password: string, work: (db: Client) => Promise<unknown>): Promise<void> {
  const db = new Client({
    host: HOST,
    port,
    user: SUPERUSER_ROLE,
    password,
    database: "postgres",
    connectionTimeoutMillis: LOOK_TIMEOUT_MS,
  });
  // A server that dies between two looks says so here as well: the next look reports it.
  db.on("error", () => {});
  try {
    await db.connect();
    await work(db);
  } finally {
    await db.end().catch(() => {});
  }
}

/** fetch hides the reason in a cause. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
