import { type ConversionParty, conversionPostings } from "#lib/exchange.ts";
import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { bucketOfUuid, parseId } from "#lib/ids.ts";
import type { CreateConversionRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountName } from "#services/ledger/command.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { readQuote } from "#services/ledger/get-quote.ts";
import { answerTransfer, type MadeTransfer, makeTransfer } from "#services/ledger/make-transfer.ts";
import { checkTexts, type ParsedPosting } from "#services/ledger/parse-transfer.ts";
import type { LockedQuote } from "#services/ledger/quote.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { systemAccount } from "#services/ledger/system-accounts.ts";

const METHOD = "create_conversion";
const TYPE = "conversion";
/** By the house's part in a posting (docs/exchange.md). */
const HOUSE_REFERENCES = { fx_position: "system:fx_position", fx_residue: "system:fx_residue" } as const;

export async function createConversion(ctx: Context, request: CreateConversionRequest, call: Call): Promise<Transfer> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const parsed = parseConversion(request);
  // Its amounts never change; whether it may be used is decided under its lock.
  const found = await readQuote(ctx, parsed.quote.uuid);
  if (found === undefined) throw refusals.quoteNotFound(parsed.quote.id);
  const { payer, payee, memo, metadata, fingerprint } = parsed;
  const postings = await toPostings(ctx, found.quote, payer, payee);
  const made = await makeTransfer(ctx, {
    parsed: { postings, type: TYPE, memo, metadata, effectiveTimeMs: undefined, fingerprint },
    caller: call.caller,
    method: METHOD,
    idempotencyKey,
    lane: { name: call.caller, ordered: false },
    timeoutMs: COMMAND_TIMEOUT_MS,
    links: { quoteId: found.quote.quoteId },
  });
  return answerTransfer(inWordsOfTheRequest(made, parsed), call);
}

interface ParsedConversion {
  readonly quote: AccountName;
  readonly payer: AccountName;
  readonly payee: AccountName;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fingerprint: Buffer;
}

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
function parseConversion(request: CreateConversionRequest): ParsedConversion {
  const check = new FieldCheck();
  const named = (field: string, id: string, prefix: "acct" | "quot", description: string): AccountName => {
    const parsed = parseId(id, prefix);
    check.require(parsed !== undefined, field, description);
    return { id, uuid: parsed?.uuid ?? "" };
  };
  const { quoteId, debitAccountId, creditAccountId } = request;
  const quote = named("quote_id", quoteId, "quot", "must be a quote id (quot_…)");
  const payer = named("debit_account_id", debitAccountId, "acct", "must be an account id (acct_…)");
  const payee = named("credit_account_id", creditAccountId, "acct", "must be an account id (acct_…)");
  check.require(
    payer.uuid === "" || payer.uuid !== payee.uuid,
    "credit_account_id",
    "is the debit account too: an account has one currency",
  );
  const { memo, metadata } = checkTexts(check, { ...request, type: TYPE }, TYPE);
  check.done();
  const pairs = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  const fingerprint = canonicalHash([quoteId, debitAccountId, creditAccountId, memo, pairs]);
  return { quote, payer, payee, memo, metadata, fingerprint };
}

/** The house's accounts are those of the shard of the posting's other account. */
function toPostings(
  ctx: Context,
  quote: LockedQuote,
  payer: AccountName,
  payee: AccountName,
): Promise<ParsedPosting[]> {
  return Promise.all(
    conversionPostings(quote).map(async ({ debit, credit, amountMinorUnits, currency }) => {
      const handle = ctx.shardOfId((debit === "payer" ? payer : payee).id);
      const account = async (party: ConversionParty) => {
        if (party === "payer" || party === "payee") return toParsed(party === "payer" ? payer : payee);
        return toParsed(await systemAccount(ctx, handle, HOUSE_REFERENCES[party], currency));
      };
      return { debit: await account(debit), credit: await account(credit), amountMinorUnits, currency };
    }),
  );
}

function toParsed({ id, uuid }: AccountName) {
  return { kind: "account", id, uuid, bucket: bucketOfUuid(uuid) } as const;
}

/** An account that is not there is named by its field in the request, which knows no postings. */
function inWordsOfTheRequest(made: MadeTransfer, { payer, payee }: ParsedConversion): MadeTransfer {
  const { outcome } = made;
  if (outcome.kind !== "refused" || outcome.refusal.reason !== "ACCOUNT_NOT_FOUND") return made;
  const { account_id: missing } = outcome.refusal.metadata;
  if (missing !== payer.id && missing !== payee.id) return made;
  const field = missing === payer.id ? "debit_account_id" : "credit_account_id";
  return { ...made, outcome: { ...outcome, refusal: refusals.postingAccountNotFound(missing, field) } };
}
