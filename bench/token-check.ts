import { generateKeyPairSync, sign } from "node:crypto";
import type { Row } from "#bench/table.ts";
import { accessTokens, TOKEN_AUDIENCE, TOKEN_ISSUER } from "#lib/access-token.ts";
import { createLogger } from "#lib/log.ts";
import { DEVELOPMENT_KEY_ID, openSigningKeys } from "#lib/signing-keys.ts";

/** What it costs a service to know whose token a call brings: the first time, and from then on. Needs no stack. */
export const TOKEN_CHECK = "token-check";

const TOKENS = 2_000;
const CHECKS_OF_EACH = 20;
const LIFETIME_SECONDS = 600;
const KNOWN_MAX_MS = 0.2;

export async function runTokenCheck(): Promise<Row[]> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const log = createLogger("bench");
  log.level = "silent";
  const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
  const keys = await openSigningKeys(() => Promise.resolve([]), pem, log);
  try {
    const tokens = accessTokens(TOKEN_ISSUER, keys, Date.now);
    const nowSeconds = Math.floor(Date.now() / 1000);
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const texts = Array.from({ length: TOKENS }, (_, index) => {
      const times = { iat: nowSeconds, nbf: nowSeconds, exp: nowSeconds + LIFETIME_SECONDS };
      const claims = { iss: TOKEN_ISSUER, aud: TOKEN_AUDIENCE, sub: `service:n${index}`, role: "SERVICE", ...times };
      const signed = `${encode({ alg: "EdDSA", kid: DEVELOPMENT_KEY_ID })}.${encode(claims)}`;
      return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
    });
    const firstMs = await eachMs(TOKENS, async () => {
      for (const text of texts) await tokens.principalOf(text);
    });
    // As they come with calls: text that was read just now.
    const received = texts.map((text) => Buffer.from(text));
    const knownMs = await eachMs(TOKENS * CHECKS_OF_EACH, async () => {
      for (let round = 0; round < CHECKS_OF_EACH; round += 1) {
        for (const bytes of received) {
          const principal = tokens.principalOf(bytes.toString("latin1"));
          if (principal instanceof Promise) await principal;
        }
      }
    });
    return [
      {
        workload: "token check in a service",
        figure: `${(knownMs * 1000).toFixed(1)} µs`,
        bound: `< ${KNOWN_MAX_MS} ms`,
        met: knownMs < KNOWN_MAX_MS,
      },
      { workload: "  the first of a token: its signature", figure: `${(firstMs * 1000).toFixed(0)} µs` },
    ];
  } finally {
    await keys.stop();
  }
}

async function eachMs(count: number, work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / count;
}
