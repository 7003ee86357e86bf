import type { Call } from "#lib/grpc-server.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";

/**
 * Counts a call that will cost a password hash against the address it comes from. Calls that came around the gateway have none;
 * they are of our own processes. Throws TOO_MANY_ATTEMPTS.
 */
export function takeAttempt(ctx: Context, call: Call): void {
  if (call.clientAddress === undefined) return;
  const waitMs = ctx.addressLimit.take(call.clientAddress);
  if (waitMs > 0) throw refusals.tooManyAttempts(waitMs);
}

/** Whose password hashes wait for each other (password-hashing.ts). */
export function laneOf(call: Call): string {
  return call.clientAddress ?? `peer ${call.peer}`;
}
