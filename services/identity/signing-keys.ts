import { createPrivateKey, type KeyObject } from "node:crypto";
import { Gauge } from "prom-client";
import { BackOff, pause } from "#lib/back-off.ts";
import type { Logger } from "#lib/log.ts";
import type { Jwk } from "#proto/ledgermesh/identity/v1/identity.ts";
import { refusals } from "#services/identity/refusals.ts";
import { type KeyTurns, rotateSigningKeys } from "#services/identity/rotate-signing-keys.ts";
import type { Seal } from "#services/identity/seal.ts";
import type { Shard } from "#services/identity/shard.ts";

/**
 * The signing keys as this process knows them, read again every half a minute. It goes on with what it knows while their shard
 * is away, but not for long: it might sign with a key that the others have retired.
 */
export interface SigningKeys {
  /** Every public key that a good token may be signed with. Throws SIGNING_KEYS_UNAVAILABLE. */
  published(): readonly Jwk[];
  /** The key to sign with now. Throws SIGNING_KEYS_UNAVAILABLE. */
  active(): { readonly keyId: string; readonly privateKey: KeyObject };
  /** Ends with the worker that reads and rotates them. */
  readonly working: Promise<void>;
}

const READ_INTERVAL_MS = 30_000;
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;
const USABLE_FOR_MS = 5 * 60_000;

const HOUR_MS = 3_600_000;
/** RETIRED: ten minutes of a token, five of USABLE_FOR_MS, and time for clocks that differ. */
const OVERLAP = { pendingMs: HOUR_MS, retiredMs: HOUR_MS };

const keyAge = new Gauge({ name: "identity_signing_keys_read_age_seconds", help: "Since the signing keys were read" });

interface KnownKeys {
  readonly jwks: readonly Jwk[];
  readonly keyId: string;
  readonly privateKey: KeyObject;
  readonly readAtMs: number;
}

/** Reads the keys, and makes the first one where there is none. `nowMs` is a clock that never goes back. */
export async function openSigningKeys(
  shard: Shard,
  seal: Seal,
  activeDays: number,
  log: Logger,
  signal: AbortSignal,
  nowMs: () => number = () => performance.now(),
): Promise<SigningKeys> {
  const turns: KeyTurns = { ...OVERLAP, activeMs: activeDays * 24 * HOUR_MS };
  let known: KnownKeys | undefined;
  const ageMs = () => (known === undefined ? Number.POSITIVE_INFINITY : nowMs() - known.readAtMs);

  async function round(): Promise<void> {
    const readAtMs = nowMs();
    const rotated = await shard.transact((db) => rotateSigningKeys(db, seal, turns));
    if (rotated) log.info("the signing keys have taken turns");
    known = { ...(await readKeys(shard, seal)), readAtMs };
  }

  async function work(): Promise<void> {
    const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
    while (!signal.aborted) {
      try {
        await round();
        backOff.reset();
        keyAge.set(0);
        await pause(READ_INTERVAL_MS, signal);
      } catch (error) {
        log.warn({ error: String(error) }, "the signing keys could not be read; trying again");
        if (known !== undefined) keyAge.set(ageMs() / 1000);
        await backOff.wait(signal);
      }
    }
  }

  // A shard that is away must not keep the process from starting: it serves what needs no key.
  await round().catch((error: unknown) => log.warn({ error: String(error) }, "the signing keys could not be read yet"));
  return {
    working: work(),
    published() {
      if (known === undefined) throw refusals.signingKeysUnavailable();
      return known.jwks;
    },
    active() {
      if (known === undefined || ageMs() > USABLE_FOR_MS) throw refusals.signingKeysUnavailable();
      return known;
    },
  };
}

async function readKeys(shard: Shard, seal: Seal): Promise<Omit<KnownKeys, "readAtMs">> {
  const rows = await shard.read<{ key_id: string; state: string; public_key: string; private_key_sealed: Buffer }>(
    "select key_id, state, public_key, private_key_sealed from identity.signing_keys order by created_at",
    [],
  );
  const active = rows.find(({ state }) => state === "ACTIVE");
  if (active === undefined) throw new Error("no signing key is ACTIVE");
  const jwks = rows.map(({ key_id, public_key }) => {
    const { kty, crv, x } = JSON.parse(public_key) as { kty: string; crv: string; x: string };
    return { kty, crv, x, kid: key_id, alg: "EdDSA", use: "sig" };
  });
  const der = seal.open(active.key_id, active.private_key_sealed);
  return { jwks, keyId: active.key_id, privateKey: createPrivateKey({ key: der, format: "der", type: "pkcs8" }) };
}
