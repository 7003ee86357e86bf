import { type CryptoKey, importJWK, importSPKI } from "jose";
import { accessRefusals } from "#lib/access-refusals.ts";
import { BackOff, pause } from "#lib/back-off.ts";
import type { Logger } from "#lib/log.ts";

/**
 * The public keys that access tokens may be signed with: those that identity publishes, and in development that of the
 * launcher. They are read again every minute, and, not too often, when a token names a key that is not known.
 */

/** A public key as identity publishes it (RFC 8037). */
export interface PublishedKey {
  readonly kid: string;
  readonly kty: string;
  readonly crv: string;
  readonly x: string;
}

export interface SigningKeys {
  /** The key of this id, as far as it is known now. */
  get(keyId: string): CryptoKey | undefined;
  /**
   * The same, after another look at what is published when it is not known. Rejects with a Refusal: `TOKEN_INVALID` when
   * there is no such key, `SIGNING_KEYS_UNKNOWN` when nobody can say.
   */
  find(keyId: string): Promise<CryptoKey>;
  stop(): Promise<void>;
}

/** Never published by identity: only the launcher's key has this id. */
export const DEVELOPMENT_KEY_ID = "development";
const REFRESH_INTERVAL_MS = 60_000;
const FIRST_RETRY_MS = 500;
/** Between two looks because of keys that are not known: whoever makes up ids must not make us ask identity each time. */
const MIN_LOOK_INTERVAL_MS = 5_000;
/** What was read is the whole truth for so long: a key that is not in it does not exist. */
const FRESH_FOR_MS = 2 * REFRESH_INTERVAL_MS;
/** Of what identity may publish: a few while one takes the place of another. */
const MAX_KEYS = 16;

/**
 * Reads the keys from now on until it is stopped; `developmentKey` is a public key in PEM.
 * `fetchKeys` rejects when identity does not answer.
 */
export async function openSigningKeys(
  fetchKeys: () => Promise<readonly PublishedKey[]>,
  developmentKey: string | undefined,
  log: Logger,
): Promise<SigningKeys> {
  const ours = developmentKey === undefined ? undefined : await importSPKI(developmentKey, "EdDSA");
  let published: ReadonlyMap<string, CryptoKey> = new Map();
  /** The `x` of each, so that a key that stays is the same object: tokens are remembered with theirs. */
  let materials: ReadonlyMap<string, string> = new Map();
  let readAtMs = Number.NEGATIVE_INFINITY;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<boolean> | undefined;
  let answers = true;

  async function read(): Promise<boolean> {
    const beganMs = performance.now();
    lookedAtMs = beganMs;
    try {
      const next = new Map<string, CryptoKey>();
      const nextMaterials = new Map<string, string>();
      for (const { kid, kty, crv, x } of (await fetchKeys()).slice(0, MAX_KEYS)) {
        if (kty !== "OKP" || crv !== "Ed25519") continue;
        const known = materials.get(kid) === x ? published.get(kid) : undefined;
        next.set(kid, known ?? ((await importJWK({ kty, crv, x }, "EdDSA")) as CryptoKey));
        nextMaterials.set(kid, x);
      }
      [published, materials, readAtMs] = [next, nextMaterials, beganMs];
      if (!answers) log.info("identity tells its signing keys again");
      answers = true;
      return true;
    } catch (error) {
      if (answers) log.warn({ error: String(error) }, "identity does not tell its signing keys");
      answers = false;
      return false;
    }
  }

  /** One look at a time, whoever asks for it. */
  function look(): Promise<boolean> {
    looking ??= read().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  async function keepReading(signal: AbortSignal): Promise<void> {
    const retry = new BackOff(FIRST_RETRY_MS, REFRESH_INTERVAL_MS);
    while (!signal.aborted) {
      if (await look()) {
        retry.reset();
        await pause(REFRESH_INTERVAL_MS, signal);
      } else await retry.wait(signal);
    }
  }

  const get = (keyId: string) => (keyId === DEVELOPMENT_KEY_ID ? ours : published.get(keyId));
  const stopping = new AbortController();
  const reading = keepReading(stopping.signal);
  return {
    get,
    async find(keyId) {
      const known = get(keyId);
      if (known !== undefined) return known;
      if (keyId === DEVELOPMENT_KEY_ID) throw accessRefusals.tokenInvalid("development tokens are not taken here");
      if (looking !== undefined || performance.now() - lookedAtMs >= MIN_LOOK_INTERVAL_MS) await look();
      const found = get(keyId);
      if (found !== undefined) return found;
      if (performance.now() - readAtMs > FRESH_FOR_MS) throw accessRefusals.signingKeysUnknown();
      throw accessRefusals.tokenInvalid("its kid names no key of ours");
    },
    async stop() {
      stopping.abort();
      await reading;
    },
  };
}
