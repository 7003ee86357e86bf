import { status } from "@grpc/grpc-js";
import { openCertificate } from "#cli/endpoints.ts";
import { Interrupted, Patience } from "#cli/patience.ts";
import { Problem } from "#infra/local/problem.ts";
import { type Answer, CallError, call, openClient } from "#lib/grpc-client.ts";
import { decodePosition, encodePosition, type Position } from "#lib/position.ts";
import {
  type Account,
  type BatchCreateTransfersResponse_Result,
  type CreateAccountRequest,
  type CreateTransferRequest,
  type Entry,
  LedgerServiceClient,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** The ledger as the commands need it: every call is repeated for a while when it could not be answered. */
export interface Ledger {
  readonly signal: AbortSignal;
  /** Said once when an answer takes longer than a moment. */
  readonly onWait: (reason: string) => void;
  /** Opens an account, or finds the one that was opened under this key. Rejects with a CallError when it is refused. */
  openAccount(request: CreateAccountRequest): Promise<OpenedAccount>;
  createTransfers(transfers: CreateTransferRequest[]): Promise<BatchCreateTransfersResponse_Result[]>;
  readAccount(accountId: string): Promise<Account>;
  /** The newest entries, newest first. */
  readEntries(accountId: string, count: number): Promise<Entry[]>;
  /** A token for `x-read-after`: a query that sends it sees everything made through this connection. Empty: nothing yet. */
  position(): string;
  close(): void;
}

export interface OpenedAccount {
  readonly accountId: string;
  readonly currency: string;
  readonly shard: number;
  /** It was there before. */
  readonly replayed: boolean;
}

const CONNECT_TIMEOUT_MS = 3_000;
/** The whole call has failed, and may be repeated. */
const PASSING_CODES: ReadonlySet<number> = new Set([
  status.UNAVAILABLE,
  status.RESOURCE_EXHAUSTED,
  status.DEADLINE_EXCEEDED,
  status.INTERNAL,
  status.CANCELLED,
]);

/** Whether a failed command may be repeated as it is, with some hope. */
export function isPassing(code: number): boolean {
  return PASSING_CODES.has(code);
}

/** Connects to host:port. Throws a Problem when nothing answers there. */
export async function connectLedger(
  address: string,
  signal: AbortSignal,
  onWait: (reason: string) => void,
): Promise<Ledger> {
  const client = openClient(LedgerServiceClient, address, openCertificate());
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + CONNECT_TIMEOUT_MS, (error) => {
      if (error === undefined) return resolve();
      client.close();
      reject(
        new Problem(`No ledger answers at ${address}. Start it with: make start (or name it: --ledger HOST:PORT)`),
      );
    });
  });
  const positions = new Map<number, bigint>();

  /** Notes the position of an answer; answers the shards that it names. */
  function note(token: string | undefined): Position[] {
    const named = decodePosition(token ?? "") ?? [];
    for (const { shard, number } of named) {
      if (number > (positions.get(shard) ?? -1n)) positions.set(shard, number);
    }
    return named;
  }

  async function patiently<Response>(tryOnce: () => Promise<Answer<Response>>): Promise<Answer<Response>> {
    const patience = new Patience(signal, onWait);
    for (;;) {
      if (signal.aborted) throw new Interrupted("Stopped.");
      try {
        return await tryOnce();
      } catch (error) {
        if (!(error instanceof CallError) || !isPassing(error.code)) throw error;
        await patience.wait(error.message);
      }
    }
  }

  return {
    signal,
    onWait,
    async openAccount(request) {
      const { response, position, replayed } = await patiently(() => call(client, client.createAccount, request));
      const [named] = note(position);
      if (named === undefined) throw new Error("the ledger gave no position for a new account");
      const { accountId, currency } = response;
      return { accountId, currency, shard: named.shard, replayed };
    },
    async createTransfers(transfers) {
      const { response, position } = await patiently(() => call(client, client.batchCreateTransfers, { transfers }));
      note(position);
      return response.results;
    },
    async readAccount(accountId) {
      return (await patiently(() => call(client, client.getAccount, { accountId }))).response;
    },
    async readEntries(accountId, count) {
      const request = { accountId, pageSize: count, pageToken: "" };
      return (await patiently(() => call(client, client.listAccountEntries, request))).response.entries;
    },
    position: () => encodePosition([...positions].map(([shard, number]) => ({ shard, number }))),
    close: () => client.close(),
  };
}
