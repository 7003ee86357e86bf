import { checkPageSize, checkTime, checkType, FieldCheck } from "#lib/fields.ts";
import { parseId } from "#lib/ids.ts";

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
  const fromFine = checkTime(check, "from", from);
  const toFine = checkTime(check, "to", to);
  if (fromFine && toFine && from !== undefined && to !== undefined) {
    check.require(from.getTime() <= to.getTime(), "to", "is before from");
  }
  if (type !== "") checkType(check, "type", type);
  const size = checkPageSize(check, pageSize);
  check.done();
  return {
    filters: {
      accountId: accountId === "" ? undefined : accountId,
      from: from?.toISOString(),
      to: to?.toISOString(),
      type: type === "" ? undefined : type,
    },
    pageSize: size,
  };
}
