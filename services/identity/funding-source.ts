import { uuidToId } from "#lib/ids.ts";
import { type FundingSource, FundingSource_Kind } from "#proto/ledgermesh/identity/v1/identity.ts";

/** As it is stored, but for the provider's token, which is never read for an answer. */
export interface FundingSourceRow {
  readonly funding_source_id: string;
  readonly kind: "BANK_ACCOUNT" | "CARD" | "WALLET";
  readonly provider: string;
  readonly name: string;
  readonly last4: string;
  readonly expiry_month: number;
  readonly expiry_year: number;
  readonly created_at: Date;
}

export const FUNDING_SOURCE_COLUMNS =
  "funding_source_id, kind, provider, name, last4, expiry_month, expiry_year, created_at";
/** Of a user. */
export const MAX_FUNDING_SOURCES = 20;

export function toFundingSource(row: FundingSourceRow): FundingSource {
  return {
    fundingSourceId: uuidToId("fund", row.funding_source_id),
    kind: FundingSource_Kind[row.kind],
    provider: row.provider,
    name: row.name,
    last4: row.last4,
    expiryMonth: row.expiry_month,
    expiryYear: row.expiry_year,
    createTime: row.created_at,
  };
}
