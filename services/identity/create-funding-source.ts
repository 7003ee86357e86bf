import type { PoolClient } from "pg";
import { FieldCheck, isLine } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import {
  type CreateFundingSourceRequest,
  type FundingSource,
  FundingSource_Kind,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import type { Context } from "#services/identity/context.ts";
import {
  FUNDING_SOURCE_COLUMNS,
  type FundingSourceRow,
  MAX_FUNDING_SOURCES,
  toFundingSource,
} from "#services/identity/funding-source.ts";
import { refusals } from "#services/identity/refusals.ts";
import { type Self, selfOf } from "#services/identity/self.ts";

const METHOD = "create_funding_source";
const MAX_NAME_CHARACTERS = 60;
const LAST_YEAR = 2100;

/** Card numbers and the like never come here: lib/card-data.ts refuses them before. */
export async function createFundingSource(
  ctx: Context,
  request: CreateFundingSourceRequest,
  call: Call,
): Promise<FundingSource> {
  const self = selfOf(call);
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const source = parse(request);
  const command = {
    self,
    key,
    source,
    fingerprint: ctx.keys.fingerprint([METHOD, source]),
    id: ctx.newId("fund", self.bucket),
  };
  const outcome = await ctx.shardOfBucket(self.bucket).transact((db) => create(db, command));
  switch (outcome.kind) {
    case "replayed":
      call.markReplayed();
      return toFundingSource(outcome.row);
    case "created":
      return toFundingSource(outcome.row);
    case "key_reused":
      throw refusals.idempotencyKeyReused(key, outcome.fundingSourceId);
    case "gone":
      throw refusals.fundingSourceNotFound(outcome.fundingSourceId);
    case "exists":
      throw refusals.fundingSourceExists(outcome.fundingSourceId);
    case "expired":
      throw refusals.cardExpired();
    case "too_many":
      throw refusals.tooManyFundingSources(MAX_FUNDING_SOURCES);
    case "user_gone":
      throw refusals.userNotFound();
  }
}

interface NewFundingSource {
  readonly kind: FundingSourceRow["kind"];
  readonly provider: string;
  readonly providerToken: string;
  readonly name: string;
  readonly last4: string;
  readonly expiryMonth: number;
  readonly expiryYear: number;
}

const KINDS = new Map<number, FundingSourceRow["kind"]>([
  [FundingSource_Kind.BANK_ACCOUNT, "BANK_ACCOUNT"],
  [FundingSource_Kind.CARD, "CARD"],
  [FundingSource_Kind.WALLET, "WALLET"],
]);

/** Throws INVALID_ARGUMENT with every malformed field. */
function parse(request: CreateFundingSourceRequest): NewFundingSource {
  const { provider, providerToken, name, last4, expiryMonth, expiryYear } = request;
  const check = new FieldCheck();
  const kind = KINDS.get(request.kind);
  check.require(kind !== undefined, "kind", "must be BANK_ACCOUNT, CARD or WALLET");
  check.require(/^[a-z0-9_]{1,40}$/.test(provider), "provider", "must be 1 to 40 characters of a-z, 0-9 and _");
  check.require(
    /^[!-~]{1,200}$/.test(providerToken),
    "provider_token",
    "must be 1 to 200 printable characters without spaces",
  );
  check.require(
    name.trim() !== "" && isLine(name, MAX_NAME_CHARACTERS),
    "name",
    `must be 1 to ${MAX_NAME_CHARACTERS} characters`,
  );
  const mayLackNumber = kind === "WALLET" && last4 === "";
  check.require(
    mayLackNumber || /^[0-9A-Za-z]{4}$/.test(last4),
    "last4",
    "must be the last four characters of the number",
  );
  const isCard = kind === "CARD";
  const monthIsFine = isCard ? expiryMonth >= 1 && expiryMonth <= 12 : expiryMonth === 0;
  const yearIsFine = isCard ? expiryYear >= 2000 && expiryYear <= LAST_YEAR : expiryYear === 0;
  check.require(monthIsFine, "expiry_month", isCard ? "must be 1 to 12" : "is for a card only");
  check.require(yearIsFine, "expiry_year", isCard ? "must be a year of four digits" : "is for a card only");
  check.done();
  return { kind: kind as FundingSourceRow["kind"], provider, providerToken, name, last4, expiryMonth, expiryYear };
}

interface Command {
  readonly self: Self;
  readonly key: string;
  readonly source: NewFundingSource;
  readonly fingerprint: Buffer;
  /** Of a new one. */
  readonly id: string;
}

type Outcome =
  | { readonly kind: "created" | "replayed"; readonly row: FundingSourceRow }
  | { readonly kind: "key_reused" | "gone" | "exists"; readonly fundingSourceId: string }
  | { readonly kind: "expired" | "too_many" | "user_gone" };

async function create(db: PoolClient, { self, key, source, fingerprint, id }: Command): Promise<Outcome> {
  // One at a time for a user: they are counted.
  const { rowCount } = await db.query(
    "select from identity.users where user_id = $1 and status = 'ACTIVE' for no key update",
    [self.userUuid],
  );
  if (rowCount !== 1) return { kind: "user_gone" };
  const known = await db.query<{ fingerprint: Buffer; resource_id: string }>(
    "select fingerprint, resource_id from identity.idempotency_keys where bucket = $1 and caller = $2 and method = $3 and key = $4",
    [self.bucket, self.userId, METHOD, key],
  );
  if (known.rows[0] !== undefined) {
    const fundingSourceId = uuidToId("fund", known.rows[0].resource_id);
    if (!known.rows[0].fingerprint.equals(fingerprint)) return { kind: "key_reused", fundingSourceId };
    const [row] = await rowsOf(db, self, "funding_source_id = $2", known.rows[0].resource_id);
    return row === undefined ? { kind: "gone", fundingSourceId } : { kind: "replayed", row };
  }
  const linked = await rowsOf(db, self, "provider = $2 and provider_token = $3", source.provider, source.providerToken);
  if (linked[0] !== undefined)
    return { kind: "exists", fundingSourceId: uuidToId("fund", linked[0].funding_source_id) };
  const { rows } = await db.query<{ count: number; is_expired: boolean }>(
    `select count(*)::int as count,
            $2 = 'CARD' and make_date(greatest($3, 1), greatest($4, 1), 1) + interval '1 month' <= now() as is_expired
       from identity.funding_sources where user_id = $1`,
    [self.userUuid, source.kind, source.expiryYear, source.expiryMonth],
  );
  if (rows[0]?.is_expired === true) return { kind: "expired" };
  if ((rows[0]?.count ?? 0) >= MAX_FUNDING_SOURCES) return { kind: "too_many" };
  await db.query(
    `insert into identity.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
     values ($1, $2, $3, $4, $5, $6)`,
    [self.bucket, self.userId, METHOD, key, fingerprint, idToUuid(id)],
  );
  const inserted = await db.query<FundingSourceRow>(
    `insert into identity.funding_sources (funding_source_id, bucket, user_id, kind, provider, provider_token, name, last4,
                                           expiry_month, expiry_year)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning ${FUNDING_SOURCE_COLUMNS}`,
    [
      idToUuid(id),
      self.bucket,
      self.userUuid,
      source.kind,
      source.provider,
      source.providerToken,
      source.name,
      source.last4,
      source.expiryMonth,
      source.expiryYear,
    ],
  );
  await addIdentityEvent(db, {
    type: "funding_source_created",
    bucket: self.bucket,
    aggregateId: id,
    aggregateVersion: 1n,
    payload: { fundingSourceId: id, userId: self.userId, kind: source.kind },
  });
  return { kind: "created", row: inserted.rows[0] as FundingSourceRow };
}

async function rowsOf(db: PoolClient, self: Self, condition: string, ...values: string[]): Promise<FundingSourceRow[]> {
  const { rows } = await db.query<FundingSourceRow>(
    `select ${FUNDING_SOURCE_COLUMNS} from identity.funding_sources where user_id = $1 and ${condition}`,
    [self.userUuid, ...values],
  );
  return rows;
}
