import type { ReceivedEvent } from "#lib/events.ts";
import { parseId, timeMsOfUuid } from "#lib/ids.ts";
import type { AccountDocument, EntryDocument, Family, TransferDocument } from "#lib/projection.ts";
import {
  AccountChanged,
  AccountCreated,
  type AccountSnapshot,
  HoldChanged,
  TransferLegPosted,
  TransferPosted,
  TransferReversed,
} from "#proto/ledgermesh/ledger/v1/events.ts";
import { account_KindToJSON, account_StatusToJSON, transfer_StateToJSON } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** A document as an event leaves it. */
export interface ProjectedDocument {
  readonly family: Family;
  /** Such as `2026.11`; undefined where the family has one index. Comes from what never changes of the document. */
  readonly month: string | undefined;
  readonly id: string;
  /** The higher version of a document is the newer. */
  readonly version: bigint;
  readonly source: EntryDocument | TransferDocument | AccountDocument;
}

/**
 * The documents of an event of a shard: a pure function, so an event that comes again meets the same documents.
 * Throws when it cannot: an unknown type or schema version, an id or a time that is none.
 */
export function project(shard: number, event: ReceivedEvent): ProjectedDocument[] {
  const kind = `${event.type}.v${event.schemaVersion}`;
  switch (kind) {
    case "account_created.v1":
      return projectOneAccount(shard, event, AccountCreated.fromJSON(event.data));
    case "account_changed.v1":
      return projectOneAccount(shard, event, AccountChanged.fromJSON(event.data));
    case "hold_changed.v1": {
      // A capture's transfer tells of the account.
      const { account } = HoldChanged.fromJSON(event.data);
      return account === undefined ? [] : [projectAccount(shard, event.number, account)];
    }
    case "transfer_posted.v1":
      return projectTransferPosted(shard, event);
    case "transfer_reversed.v1": {
      const transfer = TransferReversed.fromJSON(event.data);
      return [projectTransfer(shard, transfer, event.aggregateVersion, transfer.postedEventNumber)];
    }
    case "transfer_leg_posted.v1":
      return projectEntries(shard, event, TransferLegPosted.fromJSON(event.data));
    // Transfers show what was exchanged; no document shows rates and quotes.
    case "rates_set.v1":
    case "quote_created.v1":
      return [];
    default:
      throw new Error(`events of the type ${kind} are not known`);
  }
}

function projectOneAccount(
  shard: number,
  event: ReceivedEvent,
  { account }: AccountCreated | AccountChanged,
): ProjectedDocument[] {
  if (account === undefined) throw new Error("the event has no account");
  return [projectAccount(shard, event.number, account)];
}

function projectTransferPosted(shard: number, event: ReceivedEvent): ProjectedDocument[] {
  const transfer = TransferPosted.fromJSON(event.data);
  return [
    projectTransfer(shard, transfer, event.aggregateVersion, event.number),
    ...projectEntries(shard, event, transfer),
  ];
}

/** `postedEventNumber`: in every version, pages depend on it. */
function projectTransfer(
  shard: number,
  transfer: TransferPosted | TransferReversed,
  version: bigint,
  postedEventNumber: bigint,
): ProjectedDocument {
  const postings = transfer.postings.map((posting) => ({
    debit_account_id: posting.debitAccountId,
    credit_account_id: posting.creditAccountId,
    amount_minor_units: posting.amountMinorUnits.toString(),
    currency: posting.currency,
  }));
  const accountIds = new Set(postings.flatMap((posting) => [posting.debit_account_id, posting.credit_account_id]));

  return {
    family: "transfers",
    month: monthOf(new Date(timeOfTransferIdMs(transfer.transferId)).toISOString()),
    id: transfer.transferId,
    version,
    source: {
      transfer_id: transfer.transferId,
      state: transfer_StateToJSON(transfer.state),
      postings,
      account_ids: [...accountIds],
      ...sharedFields(transfer),
      shard,
      event_number: postedEventNumber.toString(),
    },
  };
}

/** What a transfer did on one shard: its entries there, and the accounts as it left them. */
function projectEntries(
  shard: number,
  event: ReceivedEvent,
  posted: TransferPosted | TransferLegPosted,
): ProjectedDocument[] {
  const shared = sharedFields(posted);
  const postMonth = monthOf(shared.post_time);
  return [
    ...posted.entries.map(
      (entry): ProjectedDocument => ({
        family: "entries",
        month: postMonth,
        id: `${entry.accountId}:${entry.sequence}`,
        version: 1n,
        source: {
          account_id: entry.accountId,
          sequence: entry.sequence.toString(),
          transfer_id: posted.transferId,
          posting_index: entry.postingIndex,
          amount_minor_units: entry.amountMinorUnits.toString(),
          balance_after_minor_units: entry.balanceAfterMinorUnits.toString(),
          currency: entry.currency,
          counterparty_account_id: entry.counterpartyAccountId,
          ...shared,
          shard,
          event_number: event.number.toString(),
        },
      }),
    ),
    ...posted.accounts.map((account) => projectAccount(shard, event.number, account)),
  ];
}

function sharedFields({ type, memo, postTime, effectiveTime }: TransferPosted | TransferLegPosted | TransferReversed) {
  return {
    type,
    memo,
    post_time: timeText(postTime, "post_time"),
    effective_time: timeText(effectiveTime, "effective_time"),
  };
}

function projectAccount(shard: number, eventNumber: bigint, account: AccountSnapshot): ProjectedDocument {
  return {
    family: "accounts",
    month: undefined,
    id: account.accountId,
    version: account.version,
    source: {
      account_id: account.accountId,
      version: account.version.toString(),
      owner_id: account.ownerId,
      currency: account.currency,
      kind: account_KindToJSON(account.kind),
      status: account_StatusToJSON(account.status),
      posted_minor_units: account.postedMinorUnits.toString(),
      held_minor_units: account.heldMinorUnits.toString(),
      floor_minor_units: account.floorMinorUnits?.toString() ?? null,
      reference: account.reference,
      shard,
      event_number: eventNumber.toString(),
    },
  };
}

function timeText(time: Date | undefined, field: string): string {
  if (time === undefined || Number.isNaN(time.getTime())) throw new Error(`${field} is no time`);
  return time.toISOString();
}

function monthOf(time: string): string {
  if (!/^[0-9]{4}-/.test(time)) throw new Error(`${time} is beyond the year 9999`);
  return `${time.slice(0, 4)}.${time.slice(5, 7)}`;
}

function timeOfTransferIdMs(transferId: string): number {
  const parsed = parseId(transferId, "xfer");
  if (parsed === undefined) throw new Error(`${transferId} is no id of a transfer`);
  return timeMsOfUuid(parsed.uuid);
}
