import { createHash } from "node:crypto";
import Bowser from "bowser";
import type { PoolClient } from "pg";
import { Counter } from "prom-client";
import type { Call } from "#lib/grpc-server.ts";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import { Defect } from "#lib/refusal.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import { compareLogin, FAILURE_WINDOW_MS, type LoginSignal } from "#services/identity/compare-login.ts";
import type { Context } from "#services/identity/context.ts";
import { noteDevice } from "#services/identity/device.ts";

/**
 * Login events: every attempt to sign in as a user, with what the server itself sees of the client. What a client says about its
 * address is ignored.
 */
export interface Client {
  /** As the gateway saw it; empty when the call came around it. */
  readonly address: string;
  readonly userAgent: string;
  readonly browser: string;
  readonly operatingSystem: string;
  /**
   * Of the device, SHA-256: of the family of its browser or app, the family of its system, its kind (desktop, mobile, …), and what it
   * calls itself in the header `x-device-id`, a random text that an app or a page keeps for itself. Versions are left out, so that
   * an update makes no new device. It proves nothing: who has the password can look like a known device.
   */
  readonly deviceFingerprint: string;
}

export interface LoginAttempt {
  readonly userUuid: string;
  readonly bucket: number;
  readonly client: Client;
  /** Undefined: it succeeded. */
  readonly failure: "WRONG_PASSWORD" | "WRONG_SECOND_FACTOR" | undefined;
  /** Of a success. */
  readonly sessionUuid: string | undefined;
}

const MAX_USER_AGENT_CHARACTERS = 256;
const MAX_NOTING = 200;

/** What is seen of the client of a call. */
export function clientOf(call: Call): Client {
  const userAgent = headerLine(call, "user-agent");
  const { browser, os, platform } = Bowser.parse(userAgent === "" ? "unknown" : userAgent);
  const seen = [browser.name, os.name, platform.type, headerLine(call, "x-device-id")];
  return {
    address: call.clientAddress ?? "",
    userAgent,
    browser: browser.name ?? "",
    operatingSystem: os.name ?? "",
    deviceFingerprint: createHash("sha256").update(JSON.stringify(seen)).digest("base64url"),
  };
}

function headerLine(call: Call, name: string): string {
  const value = call.headers[name];
  const text = Array.isArray(value) ? value.join(",") : (value ?? "");
  return text.replaceAll(/[^ -~]/g, "?").slice(0, MAX_USER_AGENT_CHARACTERS);
}

/**
 * Stores an attempt, in the transaction of the session that it opened, if it opened one, and compares it with those before
 * (compare-login.ts): what is unlike becomes events. Last in its transaction.
 */
export async function noteLogin(ctx: Context, db: PoolClient, attempt: LoginAttempt): Promise<void> {
  const { userUuid, bucket, client, failure, sessionUuid } = attempt;
  const loginEventId = ctx.newId("logn", bucket);
  const country = ctx.countryOf(client.address);
  await db.query(
    `insert into identity.login_events (login_event_id, bucket, user_id, success, failure, session_id, address, user_agent,
                                        browser, operating_system, device_fingerprint, country)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      idToUuid(loginEventId),
      bucket,
      userUuid,
      failure === undefined,
      failure ?? "",
      sessionUuid ?? null,
      client.address,
      client.userAgent,
      client.browser,
      client.operatingSystem,
      client.deviceFingerprint,
      country,
    ],
  );
  const signals =
    failure === undefined
      ? await compareSuccess(ctx, db, attempt, country)
      : compareLogin({ success: false, failures: await countFailure(db, attempt) }, NOTHING_EARLIER);
  for (const { type, severity } of signals) {
    await addIdentityEvent(db, {
      type: "fraud_signal",
      bucket,
      aggregateId: ctx.newId("sgnl", bucket),
      aggregateVersion: 1n,
      payload: { schemaVersion: 1, userId: uuidToId("user", userUuid), type, severity, loginEventId },
    });
  }
}

const NOTHING_EARLIER = { hasSignedIn: false, last: undefined } as const;

/** Notes device and country of a success. The user's login state is locked first, so that of two at once the second sees the first. */
async function compareSuccess(
  ctx: Context,
  db: PoolClient,
  { userUuid, bucket, client }: LoginAttempt,
  country: string,
): Promise<LoginSignal[]> {
  const { rows } = await db.query<{
    has_signed_in: boolean;
    last_country: string | null;
    last_ms: number | null;
    now_ms: number;
  }>(
    `insert into identity.login_states as s (user_id, bucket) values ($1, $2)
     on conflict (user_id) do update set bucket = s.bucket
     returning has_signed_in, last_country, (extract(epoch from last_login_at) * 1000)::float8 as last_ms,
               (extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms`,
    [userUuid, bucket],
  );
  const [state] = rows;
  if (state === undefined) throw new Defect(`${userUuid} has no login state`);
  const isKnownDevice = await noteDevice(ctx, db, userUuid, bucket, client, country);
  const isKnownCountry = country === "" || !(await addCountry(db, userUuid, bucket, country));
  await db.query(
    `update identity.login_states
        set has_signed_in = true, failures = 0, failures_since = null,
            last_country = coalesce(nullif($2, ''), last_country),
            last_login_at = case when $2 = '' then last_login_at else to_timestamp($3::float8 / 1000) end
      where user_id = $1`,
    [userUuid, country, state.now_ms],
  );
  const last =
    state.last_country === null || state.last_ms === null
      ? undefined
      : { country: state.last_country, atMs: state.last_ms };
  const seen = { success: true, atMs: state.now_ms, country, isKnownDevice, isKnownCountry } as const;
  return compareLogin(seen, { hasSignedIn: state.has_signed_in, last });
}

/** Answers whether it is new. */
async function addCountry(db: PoolClient, userUuid: string, bucket: number, country: string): Promise<boolean> {
  const { rowCount } = await db.query(
    "insert into identity.login_countries (user_id, country, bucket) values ($1, $2, $3) on conflict do nothing",
    [userUuid, country, bucket],
  );
  return rowCount === 1;
}

/** How many there are with this one, in a row and within the window. */
async function countFailure(db: PoolClient, { userUuid, bucket }: LoginAttempt): Promise<number> {
  const { rows } = await db.query<{ failures: number }>(
    `insert into identity.login_states as s (user_id, bucket, failures, failures_since)
     values ($1, $2, 1, clock_timestamp())
     on conflict (user_id) do update
        set failures = case when s.failures_since > clock_timestamp() - $3 * interval '1 ms' then s.failures + 1 else 1 end,
            failures_since = case when s.failures_since > clock_timestamp() - $3 * interval '1 ms' then s.failures_since
                                  else clock_timestamp() end
     returning failures`,
    [userUuid, bucket, FAILURE_WINDOW_MS],
  );
  return rows[0]?.failures ?? 0;
}

const notNoted = new Counter({
  name: "identity_login_events_lost_total",
  help: "Failed attempts that were not stored",
});
let noting = 0;

/**
 * Stores a failed attempt after the answer, so that the answer takes as long as that to an unknown address, for which there is
 * nothing to store. Of a flood, or while the shard is away, some are not stored.
 */
export function noteFailureLater(ctx: Context, attempt: LoginAttempt): void {
  if (noting >= MAX_NOTING) {
    notNoted.inc();
    return;
  }
  noting += 1;
  setImmediate(() => {
    ctx
      .shardOfBucket(attempt.bucket)
      .transact((db) => noteLogin(ctx, db, attempt))
      .catch((error: unknown) => {
        notNoted.inc();
        ctx.log.warn({ error: String(error) }, "a failed attempt to sign in could not be stored");
      })
      .finally(() => {
        noting -= 1;
      });
  });
}
