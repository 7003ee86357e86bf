import type { ClientBase } from "pg";
import {
  DeviceForgotten,
  FraudSignal,
  FundingSourceCreated,
  FundingSourceDeleted,
  RecoveryCodeUsed,
  SessionCreated,
  SessionRevoked,
  TotpDisabled,
  TotpEnabled,
  TotpLocked,
  UserClosed,
  UserCreated,
  UserUpdated,
} from "#proto/ledgermesh/identity/v1/events.ts";

/** What happens to users, told to the rest of the system (events.proto, log `identity` of lib/events.ts). */
const MESSAGES = {
  user_created: UserCreated,
  user_updated: UserUpdated,
  user_closed: UserClosed,
  session_created: SessionCreated,
  session_revoked: SessionRevoked,
  totp_enabled: TotpEnabled,
  totp_disabled: TotpDisabled,
  totp_locked: TotpLocked,
  recovery_code_used: RecoveryCodeUsed,
  device_forgotten: DeviceForgotten,
  funding_source_created: FundingSourceCreated,
  funding_source_deleted: FundingSourceDeleted,
  fraud_signal: FraudSignal,
} as const;

const SCHEMA_VERSION = 1;

export type IdentityEvent = {
  [Type in keyof typeof MESSAGES]: {
    readonly type: Type;
    /** Ids and kinds only, never personal data: events are kept for ever. */
    readonly payload: ReturnType<(typeof MESSAGES)[Type]["decode"]>;
    /** The bucket of the user. */
    readonly bucket: number;
    /** The id of what changed, such as `user_…` or `sess_…`. */
    readonly aggregateId: string;
    /** Rises with every change of the aggregate: of two events the higher one is the newer. */
    readonly aggregateVersion: bigint;
  };
}[keyof typeof MESSAGES];

/**
 * Adds an event to the identity log of the shard, within the transaction of the change itself. Call it last, right before the
 * commit: from here on every other commit with an event on this shard waits. Several in one transaction are fine. Answers the
 * event's number.
 */
export async function addIdentityEvent(db: ClientBase, event: IdentityEvent): Promise<bigint> {
  const { type, bucket, aggregateId, aggregateVersion } = event;
  const { rows } = await db.query<{ number: string }>({
    name: "add-identity-event",
    text: "select identity.add_event($1, $2, $3, $4, $5, $6) as number",
    values: [bucket, aggregateId, aggregateVersion.toString(), type, SCHEMA_VERSION, encodePayload(event)],
  });
  return BigInt(rows[0]?.number ?? 0);
}

/** Protobuf's JSON form, with the names of the proto: generated code makes them camelCase. The messages are flat. */
function encodePayload({ type, payload }: IdentityEvent): string {
  // Each payload belongs to its type: see IdentityEvent.
  const { toJSON } = MESSAGES[type] as { toJSON(message: unknown): object };
  const fields = Object.entries(toJSON(payload));
  return JSON.stringify(Object.fromEntries(fields.map(([name, value]) => [snakeCase(name), value])));
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
