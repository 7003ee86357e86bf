import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SignJWT } from "jose";
import { secretsFolder } from "#infra/local/folders.ts";
import { makeCommand } from "#infra/local/make-command.ts";
import type { StackName } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { SESSIONLESS_TOKEN_LIFETIME_SECONDS, TOKEN_AUDIENCE, TOKEN_ISSUER } from "#lib/access-token.ts";
import { DEVELOPMENT_KEY_ID } from "#lib/signing-keys.ts";

/**
 * The key that tokens for trying, testing and measuring are made with. The launcher makes it; the private half stays in the
 * secrets of the stack, the services are given the public one. None of it exists in production, where a service does not start
 * with such a key.
 */
const PRIVATE_FILE_MODE = 0o600;

const privateKeyFile = (stack: StackName) => join(secretsFolder(stack), "development-token.key");

/** The public half, for LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE. */
export const developmentKeyFile = (stack: StackName) => join(secretsFolder(stack), "development-token.pub");

/** Makes the key of a stack when there is none. The folder of its secrets must exist. */
export function ensureDevelopmentKey(stack: StackName): void {
  if (!existsSync(privateKeyFile(stack))) {
    const { privateKey } = generateKeyPairSync("ed25519");
    writeWhole(privateKeyFile(stack), privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  }
  if (existsSync(developmentKeyFile(stack))) return;
  const publicKey = createPublicKey(readFileSync(privateKeyFile(stack)));
  writeWhole(developmentKeyFile(stack), publicKey.export({ type: "spki", format: "pem" }).toString());
}

function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: PRIVATE_FILE_MODE });
  linkSync(`${file}.new`, file);
  rmSync(`${file}.new`);
}

export const tokenRoles = ["service", "operator", "merchant", "user"] as const;
export type TokenRole = (typeof tokenRoles)[number];

export interface DevelopmentToken {
  readonly token: string;
  readonly role: TokenRole;
  /** `user_…`, or `service:NAME`. */
  readonly subject: string;
  readonly expires: Date;
}

/**
 * A token for a stack of this machine, good for an hour. Operators have a second factor; others as asked for.
 * Throws a Problem when the stack has no key.
 */
export async function developmentToken(
  stack: StackName,
  role: TokenRole,
  subject: string,
  secondFactor = role === "operator",
): Promise<DevelopmentToken> {
  const issuedSeconds = Math.floor(Date.now() / 1000);
  const expiresSeconds = issuedSeconds + SESSIONLESS_TOKEN_LIFETIME_SECONDS;
  const amr = secondFactor ? ["pwd", "otp"] : ["pwd"];
  const token = await new SignJWT({ role: role.toUpperCase(), ...(role === "service" ? {} : { amr }) })
    .setProtectedHeader({ alg: "EdDSA", kid: DEVELOPMENT_KEY_ID, typ: "JWT" })
    .setIssuer(TOKEN_ISSUER)
    .setAudience(TOKEN_AUDIENCE)
    .setSubject(subject)
    .setIssuedAt(issuedSeconds)
    .setNotBefore(issuedSeconds)
    .setExpirationTime(expiresSeconds)
    .sign(readPrivateKey(stack));
  return { token, role, subject, expires: new Date(expiresSeconds * 1000) };
}

function readPrivateKey(stack: StackName) {
  try {
    return createPrivateKey(readFileSync(privateKeyFile(stack)));
  } catch {
    throw new Problem(
      `The stack ${stack} has no development key here: tokens are made for local development stacks only. ` +
        `Mend it: start it with ${makeCommand("start", stack)}, or sign in for a token of another system.`,
    );
  }
}
