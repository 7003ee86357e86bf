import { encodeAccountSnapshot, rfc3339 } from "#services/ledger/encode-transfer.ts";
import type { HoldSnapshot } from "#services/ledger/hold.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";

/** The payload of `hold_changed`: `HoldChanged` of events.proto in Protobuf's JSON form. `account`: undefined for a capture. */
export function encodeHoldChanged(hold: HoldSnapshot, account: LockedAccount | undefined): string {
  return (
    `{"hold":{"hold_id":"${hold.holdId}","version":"${hold.version}","debit_account_id":"${hold.debit.id}",` +
    `"credit_account_id":"${hold.credit.id}","amount_minor_units":"${hold.amountMinorUnits}",` +
    `"captured_minor_units":"${hold.capturedMinorUnits}","currency":"${hold.currency}","state":"${hold.state}",` +
    `"expire_time":"${rfc3339(hold.expireTimeMs)}","create_time":"${rfc3339(hold.createTimeMs)}"}` +
    `${account === undefined ? "" : `,"account":${encodeAccountSnapshot(account)}`}}`
  );
}
