import { FieldCheck } from "#lib/fields.ts";
import { parseId } from "#lib/ids.ts";

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 500;
const TYPE_PATTERN = /^[a-z0-9_]{1,40}$/;
/** Beyond the year 9999 there is no RFC 3339. */
const MAX_TIME_MS = Date.UTC(10_000, 0) - 1;
const MIN_TIME_MS = Date.parse("0001-01-01T00:00:00Z");

/** The filters that entries and transfers have in common; undefined where not given. */
export interface ListFilters {
  readonly accountId: string | undefined;
  /** RFC 3339. */
  readonly from: string | undefined;
  /** RFC 3339; not included. */
  readonly to: string | undefined;
  readonly type: string | undefined;
}

export interface ListRequest {
  readonly accountId: string;
  readonly from: Date | undefined;
  readonly to: Date | undefined;
  readonly type: string;
  readonly pageSize: number;
}

/** Throws INVALID_ARGUMENT with every malformed field. */
export function parseList(request: ListRequest): { readonly filters: ListFilters; readonly pageSize: number } {
  const { accountId, from, to, type, pageSize } = request;
  const check = new FieldCheck();
  check.require(
    accountId === "" || parseId(accountId, "acct") !== undefined,
    "account_id",
    "is no account id (acct_…)",
  );
  const fromFine = check.require(isTime(from), "from", "is no time in the years 1 to 9999");
  const toFine = check.require(isTime(to), "to", "is no time in the years 1 to 9999");
  if (fromFine && toFine && from !== undefined && to !== undefined) {
    check.require(from.getTime() <= to.getTime(), "to", "is before from");
  }
  check.require(type === "" || TYPE_PATTERN.test(type), "type", "must be 1 to 40 of a-z, 0-9 and _");
  check.require(
    pageSize >= 0 && pageSize <= MAX_PAGE_SIZE,
    "page_size",
    `must be 1 to ${MAX_PAGE_SIZE}, or left out for ${DEFAULT_PAGE_SIZE}`,
  );
  check.done();
  return {
    filters: {
      accountId: accountId === "" ? undefined : accountId,
      from: from?.toISOString(),
      to: to?.toISOString(),
      type: type === "" ? undefined : type,
    },
    pageSize: pageSize === 0 ? DEFAULT_PAGE_SIZE : pageSize,
  };
}

function isTime(time: Date | undefined): boolean {
  if (time === undefined) return true;
  const timeMs = time.getTime();
  return timeMs >= MIN_TIME_MS && timeMs <= MAX_TIME_MS;
}
