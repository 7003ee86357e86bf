import type { Client } from "pg";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import type { Refusal } from "#lib/refusal.ts";
import { bytesArray, plainArray, textArray } from "#lib/sql-arrays.ts";
import type { CommandKey } from "#services/ledger/command.ts";
import { decodeRefusal, keyColumns, type RefusalJson } from "#services/ledger/command-key.ts";
import { refusals } from "#services/ledger/refusals.ts";
import {
  ConnectionLost,
  isConnectionLost,
  isContended,
  isMapChanged,
  type Shard,
  type Writer,
} from "#services/ledger/shard.ts";

/** A batch of new accounts on one shard: one call of one SQL function, which is one transaction. */
export interface OpenAccountCommand {
  readonly key: CommandKey;
  /** Chosen before the first try. */
  readonly accountId: string;
  readonly bucket: number;
  /** Empty: it belongs to the caller. */
  readonly ownerId: string;
  readonly currency: string;
  readonly kind: string;
  /** Undefined: unbounded. */
  readonly floorMinorUnits: bigint | undefined;
  readonly reference: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export type AccountOutcome =
  | { readonly kind: "opened"; readonly accountId: string; readonly eventNumber: bigint; readonly replayed: boolean }
  | { readonly kind: "reference_used"; readonly accountId: string }
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly replayed: boolean }
  /** It was being written when its time was over, or the answer was lost. */
  | { readonly kind: "unknown" }
  /** Postgres did not take it: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };

export async function openAccounts(
  shard: Shard,
  writer: Writer,
  commands: readonly OpenAccountCommand[],
): Promise<AccountOutcome[]> {
  let db: Client;
  try {
    db = await writer.connection();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    return commands.map(() => ({ kind: "refused", refusal: refusals.shardUnavailable(shard.number), replayed: false }));
  }
  const ordered = commands
    .map((command, index) => ({ command, index }))
    .sort((a, b) => (a.command.key.text < b.command.key.text ? -1 : 1));
  try {
    const rows = await callOpenAccounts(
      db,
      shard.map.version,
      ordered.map(({ command }) => command),
    );
    const outcomes: AccountOutcome[] = [];
    for (const [position, { command, index }] of ordered.entries())
      outcomes[index] = toOutcome(command, rows[position]);
    return outcomes;
  } catch (error) {
    if (isMapChanged(error)) throw refusals.shardMapChanged(shard.number);
    if (isContended(error)) throw refusals.shardContended(shard.number);
    if (!isConnectionLost(error)) return openHalves(shard, writer, commands, error);
    writer.discard(db);
    return commands.map(() => ({ kind: "unknown" }));
  }
}

/** An account that Postgres does not take must not spoil the others: find it by halving. */
async function openHalves(
  shard: Shard,
  writer: Writer,
  commands: readonly OpenAccountCommand[],
  error: unknown,
): Promise<AccountOutcome[]> {
  if (commands.length === 1) return [{ kind: "failed", error }];
  const middle = Math.ceil(commands.length / 2);
  const first = await openAccounts(shard, writer, commands.slice(0, middle));
  return [...first, ...(await openAccounts(shard, writer, commands.slice(middle)))];
}

type OutcomeRow = [
  outcome: "opened" | "key_known" | "reference_used",
  accountUuid: string,
  fingerprint: Buffer,
  refusal: RefusalJson | null,
  eventNumber: string | null,
];

function toOutcome(command: OpenAccountCommand, row: OutcomeRow | undefined): AccountOutcome {
  // Taken by a transaction that gave it back, or expired meanwhile: the next try finds the key free.
  if (row === undefined) return { kind: "refused", refusal: refusals.keyBusy(command.key.key), replayed: false };
  const [outcome, accountUuid, fingerprint, refusal, eventNumber] = row;
  const accountId = uuidToId("acct", accountUuid);
  switch (outcome) {
    case "opened":
      return { kind: "opened", accountId, eventNumber: BigInt(eventNumber ?? 0), replayed: false };
    case "reference_used":
      return { kind: "reference_used", accountId };
    case "key_known":
      if (!fingerprint.equals(command.key.fingerprint)) {
        const made = refusal === null ? accountId : undefined;
        const reused = refusals.idempotencyKeyReused(command.key.key, made);
        return { kind: "refused", refusal: reused, replayed: false };
      }
      if (refusal !== null) return { kind: "refused", refusal: decodeRefusal(refusal), replayed: true };
      return {
        kind: "opened",
        accountId,
        eventNumber: BigInt(eventNumber ?? 0),
        replayed: accountId !== command.accountId,
      };
  }
}

async function callOpenAccounts(
  db: Client,
  mapVersion: number,
  commands: readonly OpenAccountCommand[],
): Promise<OutcomeRow[]> {
  const { rows } = await db.query<OutcomeRow>({
    name: "open-accounts",
    text: "select * from ledger.open_accounts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    values: [
      mapVersion,
      ...keyColumns(commands.map(({ key }) => key)),
      bytesArray(commands.map(({ key }) => key.fingerprint)),
      plainArray(commands.map(({ accountId }) => idToUuid(accountId))),
      textArray(commands.map(({ ownerId }) => ownerId)),
      plainArray(commands.map(({ currency }) => currency)),
      plainArray(commands.map(({ kind }) => kind)),
      textArray(commands.map(({ floorMinorUnits }) => floorMinorUnits?.toString() ?? null)),
      textArray(commands.map(({ reference }) => reference)),
      textArray(commands.map(({ metadata }) => JSON.stringify(metadata))),
      plainArray(commands.map(({ accountId }) => accountId)),
      textArray(commands.map(encodeAccountCreated)),
    ],
    rowMode: "array",
  });
  return rows;
}

/** The event's payload: `AccountCreated` of events.proto in Protobuf's JSON form. */
export function encodeAccountCreated(command: OpenAccountCommand): string {
  return JSON.stringify({
    account: {
      account_id: command.accountId,
      version: "1",
      owner_id: command.ownerId,
      currency: command.currency,
      kind: command.kind,
      status: "ACTIVE",
      posted_minor_units: "0",
      held_minor_units: "0",
      ...(command.floorMinorUnits === undefined ? {} : { floor_minor_units: command.floorMinorUnits.toString() }),
      reference: command.reference,
    },
  });
}
