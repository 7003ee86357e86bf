import { createHash } from "node:crypto";
import Bowser from "bowser";
import type { PoolClient } from "pg";
import { Counter } from "prom-client";
import type { Call } from "#lib/grpc-server.ts";
import { idToUuid } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";

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
  /** The same for the same kind of browser on the same kind of system, in the same languages. */
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
  const seen = [browser.name, os.name, platform.type, platform.vendor, headerLine(call, "accept-language")];
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

/** Stores an attempt, in the transaction of the session that it opened, if it opened one. */
export async function noteLogin(ctx: Context, db: PoolClient, attempt: LoginAttempt): Promise<void> {
  const { userUuid, bucket, client, failure, sessionUuid } = attempt;
  await db.query(
    `insert into identity.login_events (login_event_id, bucket, user_id, success, failure, session_id, address, user_agent,
                                        browser, operating_system, device_fingerprint)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      idToUuid(ctx.newId("logn", bucket)),
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
    ],
  );
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
