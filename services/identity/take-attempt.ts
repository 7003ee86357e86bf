import { GATEWAY } from "#lib/access.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";

const UNKNOWN_ADDRESS = "unknown";

/**
 * Counts a call that will cost a password hash, or may tell of a user, against the address it comes from. Calls that came around the
 * gateway have none; they are of our own processes. Those that the gateway names none for share one. Throws TOO_MANY_ATTEMPTS.
 */
export function takeAttempt(ctx: Context, call: Call): void {
  if (call.clientAddress === undefined && call.peer !== GATEWAY) return;
  const waitMs = ctx.addressLimit.take(call.clientAddress ?? UNKNOWN_ADDRESS);
  if (waitMs > 0) throw refusals.tooManyAttempts(waitMs);
}

/** Whose password hashes wait for each other (password-hashing.ts). */
export function laneOf(call: Call): string {
  return call.clientAddress ?? `peer ${call.peer}`;
}
