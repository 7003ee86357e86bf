import type { Measurement } from "#bench/measurement.ts";
import { call } from "#lib/grpc-client.ts";
import type { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Pages of an account's entries, as a client reads them: one after the other, by the token of the page before. */

const PAGE_SIZE = 50;
/** The largest there is: the account is walked to its end in these, for tokens from everywhere. */
const WALK_PAGE_SIZE = 500;
const PAGES_MEASURED = 2_000;

export interface PageMeasurements {
  /** The newest page, again and again. */
  readonly first: Measurement;
  /** Pages behind tokens from anywhere in the account. */
  readonly deep: Measurement;
}

export async function measurePages(ledger: LedgerServiceClient, accountId: string): Promise<PageMeasurements> {
  const tokens = await walk(ledger, accountId);
  if (tokens.length === 0) throw new Error(`${accountId} has too few entries for a second page`);
  return {
    first: await measure(ledger, accountId, () => ""),
    deep: await measure(ledger, accountId, () => tokens[Math.floor(Math.random() * tokens.length)] as string),
  };
}

/** The tokens of all pages but the first. */
async function walk(ledger: LedgerServiceClient, accountId: string): Promise<string[]> {
  const tokens: string[] = [];
  for (let pageToken: string | undefined = ""; pageToken !== undefined; ) {
    const { nextPageToken } = await page(ledger, accountId, WALK_PAGE_SIZE, pageToken);
    if (nextPageToken !== "") tokens.push(nextPageToken);
    pageToken = nextPageToken === "" ? undefined : nextPageToken;
  }
  return tokens;
}

async function measure(ledger: LedgerServiceClient, accountId: string, drawToken: () => string): Promise<Measurement> {
  const latenciesUs = new Uint32Array(PAGES_MEASURED);
  const startedMs = performance.now();
  for (let index = 0; index < PAGES_MEASURED; index += 1) {
    const pageToken = drawToken();
    const sentMs = performance.now();
    const { entries } = await page(ledger, accountId, PAGE_SIZE, pageToken);
    latenciesUs[index] = (performance.now() - sentMs) * 1000;
    if (entries.length === 0) throw new Error("a page is empty");
  }
  const measuredMs = performance.now() - startedMs;
  return { acknowledged: PAGES_MEASURED, failed: 0, firstFailures: [], measuredMs, latenciesUs };
}

async function page(ledger: LedgerServiceClient, accountId: string, pageSize: number, pageToken: string) {
  const { response } = await call(ledger, ledger.listAccountEntries, { accountId, pageSize, pageToken });
  return response;
}
