import type { Client } from "pg";
import { bucketOfUuid, uuidToId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import { Refusal } from "#lib/refusal.ts";
import { bytesArray, plainArray, textArray } from "#lib/sql-arrays.ts";
import {
  decodeTransfer,
  encodeBalances,
  encodePostings,
  encodeTransferPosted,
  rfc3339,
} from "#services/ledger/encode-transfer.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { ConnectionLost, isConnectionLost, isMapChanged, type Shard, type Writer } from "#services/ledger/shard.ts";
import type {
  EntryLine,
  LockedAccount,
  PostedTransfer,
  TransferCommand,
  TransferOutcome,
} from "#services/ledger/transfer.ts";

/**
 * One batch of transfers as one Postgres transaction, in two round trips (design.md, ledger write path):
 *   1. begin, take the keys, lock the accounts, read the clock   (and read the keys that were taken before, if any)
 *   2. write everything, take event numbers, commit
 *
 * Killed before the commit: nothing has happened. Killed after: the repeated command finds its key. When the answer to
 * the commit is lost, the same commands are written again: a key that holds the command's own transfer id says that the
 * first try did commit.
 */
const MAX_TRIES_AFTER_LOST_COMMIT = 40;
const PAUSE_AFTER_LOST_COMMIT_MS = 250;

export async function writeTransfers(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
): Promise<TransferOutcome[]> {
  for (let tries = 0; ; tries += 1) {
    const attempt = await tryToWrite(shard, writer, log, commands);
    switch (attempt.kind) {
      case "committed":
        return attempt.outcomes;
      case "nothing_happened":
        // After a lost commit "nothing" speaks of this try only.
        if (tries === 0) return commands.map(() => refused(attempt.refusal));
        break;
      case "failed":
        return writeHalves(shard, writer, log, commands, attempt.error);
      case "commit_lost":
        log.warn(
          { shard: shard.number, commands: commands.length },
          "the answer to a commit was lost: looking the keys up",
        );
        break;
    }
    if (tries === MAX_TRIES_AFTER_LOST_COMMIT) return commands.map((command) => ({ kind: "unknown", command }));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_AFTER_LOST_COMMIT_MS));
  }
}

type Attempt =
  | { readonly kind: "committed"; readonly outcomes: TransferOutcome[] }
  | { readonly kind: "nothing_happened"; readonly refusal: Refusal }
  | { readonly kind: "commit_lost" }
  /** Postgres refused a statement: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };

/** A command that Postgres does not take must not spoil the others: find it by halving. */
async function writeHalves(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
  error: unknown,
): Promise<TransferOutcome[]> {
  if (commands.length === 1) throw error;
  log.error(
    { shard: shard.number, commands: commands.length, err: error },
    "Postgres refused a batch: writing its halves",
  );
  const middle = Math.ceil(commands.length / 2);
  const outcomes: TransferOutcome[] = [];
  for (const half of [commands.slice(0, middle), commands.slice(middle)]) {
    try {
      outcomes.push(...(await writeTransfers(shard, writer, log, half)));
    } catch (failure) {
      outcomes.push(...half.map(() => ({ kind: "failed" as const, error: failure })));
    }
  }
  return outcomes;
}

async function tryToWrite(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
): Promise<Attempt> {
  let db: Client;
  try {
    db = await writer.connection();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    log.warn({ shard: shard.number, error: error.message }, "no connection to the shard");
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }

  let batch: LockedBatch;
  try {
    batch = await lockBatch(db, commands);
  } catch (error) {
    return giveUp(db, shard, writer, error);
  }

  const decided = decide(commands, batch);
  if (decided.posted.length === 0 && decided.refusedNow.length === 0) {
    await db.query("rollback").catch(() => writer.discard());
    return { kind: "committed", outcomes: decided.outcomes };
  }
  const post = postTransfers(db, shard.map.version, decided);
  const commit = db.query("commit");
  const [posted, committed] = await Promise.allSettled([post, commit]);
  if (posted.status === "rejected" && !isConnectionLost(posted.reason)) return giveUp(db, shard, writer, posted.reason);
  if (posted.status === "rejected" || committed.status === "rejected") {
    writer.discard();
    return { kind: "commit_lost" };
  }
  // Postgres answers ROLLBACK to the commit of a failed transaction.
  if (committed.value.command !== "COMMIT") throw new Error(`Postgres answered ${committed.value.command} to a commit`);

  for (const [ordinal, { index, transfer }] of decided.posted.entries()) {
    decided.outcomes[index] = {
      kind: "posted",
      transfer,
      eventNumber: posted.value + BigInt(ordinal),
      replayed: false,
    };
  }
  return { kind: "committed", outcomes: decided.outcomes };
}

/** Ends the transaction of a batch that has not been committed. */
async function giveUp(db: Client, shard: Shard, writer: Writer, error: unknown): Promise<Attempt> {
  if (isConnectionLost(error)) {
    writer.discard();
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }
  await db.query("rollback").catch(() => writer.discard());
  if (isMapChanged(error)) return { kind: "nothing_happened", refusal: refusals.shardMapChanged(shard.number) };
  return { kind: "failed", error };
}

interface LockedBatch {
  /** UUIDs of the transfers whose keys were free. */
  readonly claimed: ReadonlySet<string>;
  readonly accounts: ReadonlyMap<string, LockedAccount>;
  /** By `keyText`: what became of the commands whose keys were not free. */
  readonly known: ReadonlyMap<string, KnownKey>;
  readonly nowMs: number;
}

interface KnownKey {
  readonly fingerprint: Buffer;
  readonly transferUuid: string;
  /** One of the two; neither when the key is from a command of another kind of outcome. */
  readonly refusal: RefusalJson | null;
  readonly posted: { readonly transfer: PostedTransfer; readonly eventNumber: bigint } | undefined;
}

interface RefusalJson {
  readonly status: Refusal["status"];
  readonly reason: string;
  readonly message: string;
  readonly metadata: Record<string, string>;
}

/** Names a key within a shard. */
export function keyText({ key }: TransferCommand): string {
  return `${key.bucket} ${key.caller} ${key.method} ${key.key}`;
}

async function lockBatch(db: Client, commands: readonly TransferCommand[]): Promise<LockedBatch> {
  const byKey = commands
    .map((command) => ({ command, text: keyText(command) }))
    .sort((a, b) => (a.text < b.text ? -1 : 1))
    .map(({ command }) => command);
  const names = new Map<string, string>();
  for (const { postings } of commands) {
    for (const { debit, credit } of postings) names.set(debit.uuid, debit.id).set(credit.uuid, credit.id);
  }
  const [, claimed, locked, clock] = await Promise.all([
    db.query("begin"),
    db.query<[string]>({
      name: "claim-keys",
      text: "select ledger.claim_keys($1, $2, $3, $4, $5, $6)",
      values: [
        ...keyColumns(byKey),
        bytesArray(byKey.map(({ key }) => key.fingerprint)),
        plainArray(byKey.map((c) => c.transferUuid)),
      ],
      rowMode: "array",
    }),
    db.query<AccountRow>({
      name: "lock-accounts",
      text: "select * from ledger.lock_accounts($1)",
      values: [plainArray([...names.keys()])],
      rowMode: "array",
    }),
    db.query<[number]>({
      name: "clock",
      text: "select floor(extract(epoch from clock_timestamp()) * 1000)::double precision",
      rowMode: "array",
    }),
  ]);
  const claimedUuids = new Set(claimed.rows.map(([uuid]) => uuid));
  const accounts = new Map(
    locked.rows.map((row) => toLockedAccount(row, names)).map((account) => [account.id, account]),
  );
  const taken = byKey.filter((command) => !claimedUuids.has(command.transferUuid));
  return {
    claimed: claimedUuids,
    accounts,
    known: taken.length === 0 ? NO_KNOWN_KEYS : await readKnownKeys(db, taken),
    nowMs: clock.rows[0]?.[0] as number,
  };
}

const NO_KNOWN_KEYS: ReadonlyMap<string, KnownKey> = new Map();

type AccountRow = [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string | null,
  string,
  string,
  number,
  number,
  string,
];

function toLockedAccount(row: AccountRow, names: ReadonlyMap<string, string>): LockedAccount {
  const [
    uuid,
    ownerId,
    currency,
    kind,
    status,
    posted,
    held,
    floor,
    version,
    entrySequence,
    lastPost,
    lastEffective,
    reference,
  ] = row;
  return {
    id: names.get(uuid) as string,
    uuid,
    ownerId,
    currency,
    kind,
    status,
    postedMinorUnits: BigInt(posted),
    heldMinorUnits: BigInt(held),
    floorMinorUnits: floor === null ? undefined : BigInt(floor),
    version: BigInt(version),
    entrySequence: BigInt(entrySequence),
    lastPostTimeMs: lastPost,
    lastEffectiveTimeMs: lastEffective,
    reference,
    touched: false,
  };
}

type KnownKeyRow = [
  bucket: number,
  caller: string,
  method: string,
  key: string,
  fingerprint: Buffer,
  transferUuid: string,
  refusal: RefusalJson | null,
  state: string | null,
  type: string,
  memo: string,
  metadata: Record<string, string>,
  postings: [string, string, string, string][],
  balances: [string, string, string, string][],
  postTimeMs: number,
  effectiveTimeMs: number,
  eventNumber: string,
];

async function readKnownKeys(db: Client, commands: readonly TransferCommand[]): Promise<Map<string, KnownKey>> {
  const { rows } = await db.query<KnownKeyRow>({
    name: "read-transfer-keys",
    text: "select * from ledger.read_transfer_keys($1, $2, $3, $4)",
    values: keyColumns(commands),
    rowMode: "array",
  });
  return new Map(rows.map((row) => [row.slice(0, 4).join(" "), toKnownKey(row)]));
}

function toKnownKey(row: KnownKeyRow): KnownKey {
  const [, , , , fingerprint, transferUuid, refusal, state, type, memo, metadata, postings, balances, ...rest] = row;
  const [postTimeMs, effectiveTimeMs, eventNumber] = rest;
  if (state === null) return { fingerprint, transferUuid, refusal, posted: undefined };
  const columns = { state, type, memo, metadata, postings, balances, postTimeMs, effectiveTimeMs };
  const transfer = decodeTransfer(uuidToId("xfer", transferUuid), columns);
  return { fingerprint, transferUuid, refusal, posted: { transfer, eventNumber: BigInt(eventNumber) } };
}

function keyColumns(commands: readonly TransferCommand[]): string[] {
  return [
    plainArray(commands.map(({ key }) => key.bucket)),
    textArray(commands.map(({ key }) => key.caller)),
    textArray(commands.map(({ key }) => key.method)),
    textArray(commands.map(({ key }) => key.key)),
  ];
}

interface PostedCommand {
  /** Among the commands of the batch. */
  readonly index: number;
  readonly command: TransferCommand;
  readonly transfer: PostedTransfer;
  readonly entries: readonly EntryLine[];
  /** The event: written at once, since later commands of the batch change the accounts. */
  readonly payload: string;
}

interface Decided {
  /** One per command, in order; those of `posted` are filled in after the commit. */
  readonly outcomes: TransferOutcome[];
  readonly posted: readonly PostedCommand[];
  /** Commands refused now: their keys are remembered with the refusal, or given back. */
  readonly refusedNow: readonly { command: TransferCommand; refusal: Refusal; remembered: boolean }[];
  readonly touched: readonly LockedAccount[];
}

/** Decides the commands one by one, in the order of their arrival. */
function decide(commands: readonly TransferCommand[], batch: LockedBatch): Decided {
  const outcomes: TransferOutcome[] = [];
  const posted: PostedCommand[] = [];
  const refusedNow: { command: TransferCommand; refusal: Refusal; remembered: boolean }[] = [];
  for (const [index, command] of commands.entries()) {
    if (!batch.claimed.has(command.transferUuid)) {
      outcomes.push(replay(command, batch.known.get(keyText(command))));
      continue;
    }
    const evaluation = evaluateTransfer(command, batch.accounts, batch.nowMs);
    switch (evaluation.kind) {
      case "posted": {
        const { transfer, entries, accounts } = evaluation;
        posted.push({ index, command, transfer, entries, payload: encodeTransferPosted(transfer, entries, accounts) });
        outcomes.push({ kind: "unknown", command });
        break;
      }
      case "refused":
        refusedNow.push({ command, refusal: evaluation.refusal, remembered: evaluation.remembered });
        outcomes.push(refused(evaluation.refusal));
        break;
    }
  }
  return { outcomes, posted, refusedNow, touched: [...batch.accounts.values()].filter(({ touched }) => touched) };
}

/** The answer to a command whose key was taken before. */
function replay(command: TransferCommand, known: KnownKey | undefined): TransferOutcome {
  // Taken by a transaction that gave it back, or expired meanwhile: both rare, and the next try finds the key free.
  if (known === undefined) return refused(refusals.keyBusy(command.key.key));
  // Our own first try, whose commit was not answered.
  const replayed = known.transferUuid !== command.transferUuid;
  if (!known.fingerprint.equals(command.key.fingerprint)) {
    return refused(refusals.idempotencyKeyReused(command.key.key, "transfer", uuidToId("xfer", known.transferUuid)));
  }
  if (known.refusal !== null) {
    const { status, reason, message, metadata } = known.refusal;
    return { kind: "refused", refusal: new Refusal(status, reason, message, { metadata }), replayed };
  }
  if (known.posted === undefined) throw new Error(`key ${command.key.key} has neither a transfer nor a refusal`);
  return { kind: "posted", ...known.posted, replayed };
}

function refused(refusal: Refusal): TransferOutcome {
  return { kind: "refused", refusal, replayed: false };
}

/** Sends the statement that writes the batch; answers the number of its first event. */
async function postTransfers(db: Client, mapVersion: number, decided: Decided): Promise<bigint> {
  const { posted, refusedNow, touched } = decided;
  const transfers = posted.map(({ transfer }) => transfer);
  const entries = posted.flatMap(({ entries: lines, command, transfer }) =>
    lines.map((entry) => ({ entry, command, transfer })),
  );
  const { rows } = await db.query<[string]>({
    name: "post-transfers",
    text: `select ledger.post_transfers(${POST_PARAMETERS})`,
    values: [
      mapVersion,
      plainArray(posted.map(({ command }) => command.transferUuid)),
      plainArray(posted.map(({ command }) => command.bucket)),
      plainArray(transfers.map(({ type }) => type)),
      textArray(transfers.map(({ memo }) => memo)),
      textArray(transfers.map(({ metadata }) => JSON.stringify(metadata))),
      textArray(transfers.map(encodePostings)),
      textArray(transfers.map(encodeBalances)),
      plainArray(transfers.map(({ postTimeMs }) => rfc3339(postTimeMs))),
      plainArray(transfers.map(({ effectiveTimeMs }) => rfc3339(effectiveTimeMs))),
      plainArray(transfers.map(({ transferId }) => transferId)),
      textArray(posted.map(({ payload }) => payload)),

      plainArray(entries.map(({ entry }) => entry.account.uuid)),
      plainArray(entries.map(({ entry }) => entry.sequence)),
      plainArray(entries.map(({ entry }) => bucketOfUuid(entry.account.uuid))),
      plainArray(entries.map(({ command }) => command.transferUuid)),
      plainArray(entries.map(({ entry }) => entry.postingIndex)),
      plainArray(entries.map(({ entry }) => entry.amountMinorUnits)),
      plainArray(entries.map(({ entry }) => entry.balanceAfterMinorUnits)),
      plainArray(entries.map(({ entry }) => entry.currency)),
      plainArray(entries.map(({ entry }) => entry.counterparty.uuid)),
      plainArray(entries.map(({ transfer }) => rfc3339(transfer.postTimeMs))),
      plainArray(entries.map(({ transfer }) => rfc3339(transfer.effectiveTimeMs))),

      plainArray(touched.map(({ uuid }) => uuid)),
      plainArray(touched.map(({ postedMinorUnits }) => postedMinorUnits)),
      plainArray(touched.map(({ version }) => version)),
      plainArray(touched.map(({ entrySequence }) => entrySequence)),
      plainArray(touched.map(({ lastPostTimeMs }) => rfc3339(lastPostTimeMs))),
      plainArray(touched.map(({ lastEffectiveTimeMs }) => rfc3339(lastEffectiveTimeMs))),

      ...keyColumns(refusedNow.map(({ command }) => command)),
      textArray(refusedNow.map(({ refusal, remembered }) => (remembered ? encodeRefusal(refusal) : null))),
    ],
    rowMode: "array",
  });
  return BigInt(rows[0]?.[0] as string);
}

const POST_PARAMETER_COUNT = 34;
const POST_PARAMETERS = Array.from({ length: POST_PARAMETER_COUNT }, (_, index) => `$${index + 1}`).join(", ");

function encodeRefusal(refusal: Refusal): string {
  const { status, reason, message, metadata } = refusal;
  return JSON.stringify({ status, reason, message, metadata } satisfies RefusalJson);
}
