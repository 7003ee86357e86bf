import { malformed, Refusal, type RefusalStatus } from "#lib/refusal.ts";

/** Every reason for which this service refuses, beside malformed fields (lib/refusal.ts) and keys (lib/grpc-server.ts). */

const RETRY_AFTER_MS = 1_000;
/** By the prefix of an id. */
const RESOURCE_TYPES: Readonly<Record<string, string>> = {
  acct: "account",
  xfer: "transfer",
  hold: "hold",
  quot: "quote",
};

/** A capture of all that is left is tried again after it. */
export const HOLD_CONTENDED = "HOLD_CONTENDED";
/** By the state that a hold has come to. */
const CLOSED_HOLD_REASONS = {
  CAPTURED: "HOLD_CAPTURED",
  VOIDED: "HOLD_VOIDED",
  EXPIRED: "HOLD_EXPIRED",
} as const;

function refuse(status: RefusalStatus, reason: string, message: string, metadata: Record<string, string>): Refusal {
  return new Refusal(status, reason, message, { metadata });
}

export const refusals = {
  accountNotFound: (accountId: string) =>
    refuse("NOT_FOUND", "ACCOUNT_NOT_FOUND", `There is no account ${accountId}.`, { account_id: accountId }),

  /** For an id within a request, where the field says which of several it was. */
  postingAccountNotFound: (accountId: string, field: string) =>
    new Refusal("NOT_FOUND", "ACCOUNT_NOT_FOUND", `There is no account ${accountId} (${field}).`, {
      metadata: { account_id: accountId, field },
      violations: [{ field, description: "names an account that does not exist" }],
    }),

  transferNotFound: (transferId: string) =>
    refuse("NOT_FOUND", "TRANSFER_NOT_FOUND", `There is no transfer ${transferId}.`, { transfer_id: transferId }),

  quoteNotFound: (quoteId: string) =>
    refuse("NOT_FOUND", "QUOTE_NOT_FOUND", `There is no quote ${quoteId}.`, { quote_id: quoteId }),
  holdNotFound: (holdId: string) =>
    refuse("NOT_FOUND", "HOLD_NOT_FOUND", `There is no hold ${holdId}.`, { hold_id: holdId }),

  /** Nothing changes any more once a hold is not OPEN. */
  holdNotOpen: (holdId: string, state: "CAPTURED" | "VOIDED" | "EXPIRED") =>
    refuse("FAILED_PRECONDITION", CLOSED_HOLD_REASONS[state], `Hold ${holdId} is ${state.toLowerCase()} already.`, {
      hold_id: holdId,
      state,
    }),

  captureExceedsHold: (holdId: string, remainingMinorUnits: bigint, neededMinorUnits: bigint) =>
    refuse(
      "FAILED_PRECONDITION",
      "CAPTURE_EXCEEDS_HOLD",
      `Hold ${holdId} has ${remainingMinorUnits} minor units left; ${neededMinorUnits} were to be captured.`,
      {
        hold_id: holdId,
        remaining_minor_units: remainingMinorUnits.toString(),
        needed_minor_units: neededMinorUnits.toString(),
      },
    ),

  expireTimeInPast: (now: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "EXPIRE_TIME_IN_PAST",
      `expire_time is not in the future: it is ${now.toISOString()}.`,
      { now: now.toISOString() },
    ),

  expireTimeTooFar: (latest: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "EXPIRE_TIME_TOO_FAR",
      `expire_time is too far ahead: ${latest.toISOString()} is the latest.`,
      { latest: latest.toISOString() },
    ),

  /** A capture of all that is left, while others capture too. Nothing has happened. */
  holdContended: (holdId: string) =>
    new Refusal(
      "UNAVAILABLE",
      HOLD_CONTENDED,
      `Other captures of hold ${holdId} came between reading what is left and taking it. Nothing has happened; try again.`,
      { metadata: { hold_id: holdId }, retryAfterMs: RETRY_AFTER_MS },
    ),

  postingNotFound: (transferId: string, index: number, count: number, field: string) =>
    new Refusal(
      "NOT_FOUND",
      "POSTING_NOT_FOUND",
      `Transfer ${transferId} has ${count} postings, and none ${index} (${field}).`,
      {
        metadata: { transfer_id: transferId, posting_index: index.toString(), postings: count.toString(), field },
        violations: [{ field, description: `must be 0 to ${count - 1}: the index of a posting of the transfer` }],
      },
    ),

  reversalOfReversal: (transferId: string, reversesTransferId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "REVERSAL_OF_REVERSAL",
      `Transfer ${transferId} takes back ${reversesTransferId}, and cannot be taken back itself. Make a new transfer.`,
      { transfer_id: transferId, reverses_transfer_id: reversesTransferId },
    ),

  conversionNotReversible: (transferId: string, quoteId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "CONVERSION_NOT_REVERSIBLE",
      `Transfer ${transferId} is a conversion (${quoteId}), whose rate has had its time. Convert back with a new quote.`,
      { transfer_id: transferId, quote_id: quoteId },
    ),

  refundExceedsRemainder: (transferId: string, index: number, remainingMinorUnits: bigint, askedMinorUnits: bigint) =>
    refuse(
      "FAILED_PRECONDITION",
      "REFUND_EXCEEDS_REMAINDER",
      `Of posting ${index} of ${transferId} ${remainingMinorUnits} minor units are left to take back; ${askedMinorUnits} were asked for.`,
      {
        transfer_id: transferId,
        posting_index: index.toString(),
        remaining_minor_units: remainingMinorUnits.toString(),
        asked_minor_units: askedMinorUnits.toString(),
      },
    ),

  alreadyReversed: (transferId: string) =>
    refuse("FAILED_PRECONDITION", "ALREADY_REVERSED", `Nothing is left of ${transferId} to take back.`, {
      transfer_id: transferId,
    }),

  /** Nothing has happened: the credit that is to be taken back is decided and not posted yet. */
  transferStillProcessing: (transferId: string) =>
    new Refusal(
      "UNAVAILABLE",
      "TRANSFER_STILL_PROCESSING",
      `Transfer ${transferId} is on its way to another shard yet. Nothing has happened; try again.`,
      { metadata: { transfer_id: transferId }, retryAfterMs: RETRY_AFTER_MS },
    ),

  /** Nothing has happened: the legs elsewhere were prepared for what was left a moment ago. */
  remainderChanged: (transferId: string) =>
    new Refusal(
      "UNAVAILABLE",
      "REMAINDER_CHANGED",
      `Another reversal of ${transferId} came first. Nothing has happened; try again for what is left now.`,
      { metadata: { transfer_id: transferId }, retryAfterMs: RETRY_AFTER_MS },
    ),

  insufficientFunds: (
    accountId: string,
    availableMinorUnits: bigint,
    floorMinorUnits: bigint,
    neededMinorUnits: bigint,
  ) =>
    refuse(
      "FAILED_PRECONDITION",
      "INSUFFICIENT_FUNDS",
      `Account ${accountId} has ${availableMinorUnits} minor units available with a floor of ${floorMinorUnits}; ${neededMinorUnits} are needed.`,
      {
        account_id: accountId,
        available_minor_units: availableMinorUnits.toString(),
        floor_minor_units: floorMinorUnits.toString(),
        needed_minor_units: neededMinorUnits.toString(),
      },
    ),

  accountNotActive: (accountId: string, status: string) =>
    refuse(
      "FAILED_PRECONDITION",
      `ACCOUNT_${status}`,
      `Account ${accountId} is ${status.toLowerCase()}: it takes no debits and no credits.`,
      { account_id: accountId, status },
    ),

  /** `done` says what it cannot be: frozen, unfrozen or closed. */
  accountCannotChange: (accountId: string, status: string, done: string) =>
    refuse(
      "FAILED_PRECONDITION",
      `ACCOUNT_${status}`,
      `Account ${accountId} is ${status.toLowerCase()}: it cannot be ${done}.`,
      { account_id: accountId, status },
    ),

  accountReserved: (accountId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "ACCOUNT_RESERVED",
      `Account ${accountId} belongs to transfers between shards: it can neither be frozen nor closed.`,
      { account_id: accountId },
    ),

  systemAccountStaysOpen: (accountId: string, reference: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "SYSTEM_ACCOUNT_STAYS_OPEN",
      `Account ${accountId} is what ${reference} stands for, for ever: it cannot be closed. Freeze it instead.`,
      { account_id: accountId, reference },
    ),

  accountNotEmpty: (accountId: string, postedMinorUnits: bigint) =>
    refuse(
      "FAILED_PRECONDITION",
      "ACCOUNT_NOT_EMPTY",
      `Account ${accountId} holds ${postedMinorUnits} minor units: bring it to zero before closing it.`,
      { account_id: accountId, posted_minor_units: postedMinorUnits.toString() },
    ),

  accountHasHolds: (accountId: string, heldMinorUnits: bigint) =>
    refuse(
      "FAILED_PRECONDITION",
      "ACCOUNT_HAS_HOLDS",
      `Holds reserve ${heldMinorUnits} minor units of account ${accountId}: capture or void them before closing it.`,
      { account_id: accountId, held_minor_units: heldMinorUnits.toString() },
    ),

  accountHasTransfersUnderWay: (accountId: string, debitMinorUnits: bigint, creditMinorUnits: bigint) =>
    refuse(
      "FAILED_PRECONDITION",
      "ACCOUNT_HAS_TRANSFERS_UNDER_WAY",
      `Transfers of other shards are about to credit account ${accountId} with ${creditMinorUnits} and debit it with ${debitMinorUnits} minor units: close it when they have arrived.`,
      {
        account_id: accountId,
        prepared_debit_minor_units: debitMinorUnits.toString(),
        prepared_credit_minor_units: creditMinorUnits.toString(),
      },
    ),

  currencyMismatch: (accountId: string, accountCurrency: string, postingCurrency: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "CURRENCY_MISMATCH",
      `Account ${accountId} is in ${accountCurrency}, not in ${postingCurrency}.`,
      { account_id: accountId, account_currency: accountCurrency, posting_currency: postingCurrency },
    ),

  balanceOverflow: (accountId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "BALANCE_OVERFLOW",
      `The balance of account ${accountId} would leave the range of a 64-bit integer.`,
      { account_id: accountId },
    ),

  debitsInSeveralBuckets: (accountIds: readonly string[]) =>
    refuse(
      "FAILED_PRECONDITION",
      "DEBITS_IN_SEVERAL_BUCKETS",
      `The accounts with a floor that a transfer debits must have one owner (one bucket): ${accountIds.join(", ")} have several. Make one transfer for each.`,
      { account_ids: accountIds.join(",") },
    ),

  /** Another member of the group: `at` counts from 0 within the group. */
  groupRefused: (at: number, key: string, reason: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "GROUP_REFUSED",
      `Nothing of the group was made: its member ${at} (idempotency key ${key}) is refused with ${reason}.`,
      { member_index: at.toString(), member_idempotency_key: key, member_reason: reason },
    ),

  effectiveTimeNotMonotonic: (accountId: string, last: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "EFFECTIVE_TIME_NOT_MONOTONIC",
      `effective_time is before the latest entry of account ${accountId}, which is effective at ${last.toISOString()}.`,
      { account_id: accountId, last_effective_time: last.toISOString() },
    ),

  effectiveTimeInFuture: (now: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "EFFECTIVE_TIME_IN_FUTURE",
      `effective_time is in the future: it is ${now.toISOString()}.`,
      {
        now: now.toISOString(),
      },
    ),

  rateInFuture: (index: number, asOf: Date, now: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "RATE_IN_FUTURE",
      `rates[${index}] is as of ${asOf.toISOString()}, which is in the future: it is ${now.toISOString()}.`,
      { index: index.toString(), as_of: asOf.toISOString(), now: now.toISOString() },
    ),

  rateUnknown: (sellCurrency: string, buyCurrency: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "RATE_UNKNOWN",
      `There is no rate between ${sellCurrency} and ${buyCurrency}. Set one first; rates over a third currency are not made up.`,
      { sell_currency: sellCurrency, buy_currency: buyCurrency },
    ),

  rateTooOld: (sellCurrency: string, buyCurrency: string, asOf: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "RATE_TOO_OLD",
      `The rate between ${sellCurrency} and ${buyCurrency} is as of ${asOf.toISOString()}: too old to quote from. Set a new one.`,
      { sell_currency: sellCurrency, buy_currency: buyCurrency, as_of: asOf.toISOString() },
    ),

  convertsToZero: (sellMinorUnits: bigint, sellCurrency: string, buyCurrency: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "CONVERTS_TO_ZERO",
      `${sellMinorUnits} minor units of ${sellCurrency} are worth less than one of ${buyCurrency}.`,
      { sell_minor_units: sellMinorUnits.toString(), sell_currency: sellCurrency, buy_currency: buyCurrency },
    ),

  amountOutOfRange: (amountMinorUnits: bigint, currency: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "AMOUNT_OUT_OF_RANGE",
      `The other side of ${amountMinorUnits} minor units of ${currency} does not fit a 64-bit integer.`,
      { amount_minor_units: amountMinorUnits.toString(), currency },
    ),

  quoteExpired: (quoteId: string, expireTime: Date) =>
    refuse(
      "FAILED_PRECONDITION",
      "QUOTE_EXPIRED",
      `Quote ${quoteId} expired at ${expireTime.toISOString()}. Make a new one.`,
      { quote_id: quoteId, expire_time: expireTime.toISOString() },
    ),

  quoteUsed: (quoteId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "QUOTE_USED",
      `Quote ${quoteId} is used: each is good for one conversion. Make a new one.`,
      {
        quote_id: quoteId,
      },
    ),

  quoteForAnotherAccount: (quoteId: string, debitAccountId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "QUOTE_FOR_ANOTHER_ACCOUNT",
      `Quote ${quoteId} was made for account ${debitAccountId}: only that one may pay.`,
      { quote_id: quoteId, debit_account_id: debitAccountId },
    ),

  /** Another conversion has reserved it, and may yet fail. */
  quoteBusy: (quoteId: string) =>
    new Refusal(
      "UNAVAILABLE",
      "QUOTE_BUSY",
      `Another conversion with quote ${quoteId} is under way. Nothing has happened; try again.`,
      { metadata: { quote_id: quoteId }, retryAfterMs: RETRY_AFTER_MS },
    ),

  /** Postgres remembers it in the same words: see open-accounts.sql. */
  referenceAlreadyUsed: (reference: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "REFERENCE_ALREADY_USED",
      `The owner has another account with the reference "${reference}".`,
      { reference },
    ),

  /** `made` is what the first request made; undefined when it was refused, or made nothing. */
  idempotencyKeyReused: (key: string, made: string | undefined) =>
    made === undefined
      ? refuse(
          "ALREADY_EXISTS",
          "IDEMPOTENCY_KEY_REUSED",
          `The idempotency key ${key} was used for another request. Use a new key for a new command.`,
          { idempotency_key: key },
        )
      : refuse(
          "ALREADY_EXISTS",
          "IDEMPOTENCY_KEY_REUSED",
          `The idempotency key ${key} was used for another request, which made ${made}. Use a new key for a new command.`,
          { idempotency_key: key, resource_type: RESOURCE_TYPES[made.slice(0, 4)] ?? "resource", resource_name: made },
        ),

  /** Nothing has happened, and nothing will. */
  transferAborted: (transferId: string) =>
    new Refusal(
      "UNAVAILABLE",
      "TRANSFER_ABORTED",
      `The transfer took too long between the shards and was given up (${transferId}). Nothing has happened; try again.`,
      { metadata: { transfer_id: transferId }, retryAfterMs: RETRY_AFTER_MS },
    ),

  transitReserved: (accountId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "ACCOUNT_RESERVED",
      `Account ${accountId} belongs to transfers between shards: it cannot be named in a posting.`,
      { account_id: accountId },
    ),

  /** Another transaction had to go first: a deadlock between two ledgers. Nothing has happened. */
  shardContended: (shard: number) =>
    new Refusal(
      "UNAVAILABLE",
      "SHARD_CONTENDED",
      `Another command of shard ${shard} had to go first. Nothing has happened; try again.`,
      {
        metadata: { shard: shard.toString() },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),

  /** The one refusal after which some of the call may have happened. */
  ratesNotEverywhere: (shards: readonly number[]) =>
    new Refusal(
      "UNAVAILABLE",
      "RATES_NOT_EVERYWHERE",
      `Shards without an answer: ${shards.join(", ")}; the others have the rates. Repeat the call with the same idempotency key to complete it.`,
      { metadata: { shards: shards.join(",") }, retryAfterMs: RETRY_AFTER_MS },
    ),

  /** `system:NAME` beside the account that it stands for. */
  holdOnItself: (accountId: string) =>
    malformed([
      {
        field: "credit_account_id",
        description: `is the debit account too (${accountId}): money must move between two accounts`,
      },
    ]),

  /** `system:NAME` beside the account that it stands for. */
  debitIsCredit: (index: number, accountId: string) =>
    malformed([
      {
        field: `postings[${index}].credit_account_id`,
        description: `is the debit account too (${accountId}): money must move between two accounts`,
      },
    ]),

  /** Another call with this key is just ending. */
  keyBusy: (key: string) =>
    new Refusal(
      "UNAVAILABLE",
      "IDEMPOTENCY_KEY_BUSY",
      `Another call with the idempotency key ${key} is just ending. Nothing has happened; try again.`,
      {
        metadata: { idempotency_key: key },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),

  /** Nothing has happened. */
  shardUnavailable: (shard: number) =>
    new Refusal(
      "UNAVAILABLE",
      "SHARD_UNAVAILABLE",
      `Shard ${shard} does not answer. Nothing has happened; try again.`,
      {
        metadata: { shard: shard.toString() },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),

  /** Nothing has happened: the command was still waiting when its time was over. */
  shardTooSlow: (shard: number) =>
    new Refusal(
      "UNAVAILABLE",
      "SHARD_TOO_SLOW",
      `Shard ${shard} did not come to it in time. Nothing has happened; try again.`,
      {
        metadata: { shard: shard.toString() },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),

  /** Nothing has happened. */
  shardMapChanged: (shard: number) =>
    new Refusal("UNAVAILABLE", "SHARD_MAP_CHANGED", "Buckets are being moved. Nothing has happened; try again.", {
      metadata: { shard: shard.toString() },
      retryAfterMs: RETRY_AFTER_MS,
    }),

  /** The outcome of a command that makes no transfer is not known; repeating the call finds out. */
  outcomeUnknown: (shard: number) =>
    new Refusal(
      "DEADLINE_EXCEEDED",
      "OUTCOME_UNKNOWN",
      `Shard ${shard} did not say in time whether the command was carried out. Repeat it with the same idempotency key.`,
      { metadata: { shard: shard.toString() }, retryAfterMs: RETRY_AFTER_MS },
    ),

  /** Nothing has happened. */
  tooManyCommands: (shard: number, waiting: number) =>
    new Refusal(
      "RESOURCE_EXHAUSTED",
      "TOO_MANY_COMMANDS",
      `${waiting} commands wait for shard ${shard} already. Nothing has happened; try again.`,
      {
        metadata: { shard: shard.toString() },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),
} as const;
