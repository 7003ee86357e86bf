import { randomBytes } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { secretsFolder } from "#infra/local/folders.ts";
import type { StackName } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";

const SECRET_BYTES = 24;
const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_FOLDER_MODE = 0o700;

/** The roles that services and auditors log in with; the migrations make them. */
export const roles = ["ledger", "relay", "projector", "reporting", "identity", "auditor"] as const;
export type Role = (typeof roles)[number];

const SUPERUSER = "postgres-superuser";
const NATS = "nats";
const PAGE_TOKEN_KEY = "page-token.key";
const IDENTITY_KEY = "identity.key";
const KEY_ENCRYPTION_KEY = "key-encryption.key";
const roleFile = (role: Role) => `postgres-role-${role}`;

/** Makes those secrets of a stack that do not exist yet. */
export function ensureSecrets(stack: StackName): void {
  const folder = secretsFolder(stack);
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  for (const name of [SUPERUSER, NATS, PAGE_TOKEN_KEY, IDENTITY_KEY, KEY_ENCRYPTION_KEY, ...roles.map(roleFile)]) {
    const file = join(folder, name);
    if (existsSync(file)) continue;
    // A letter first: nats-server reads a variable of digits alone as a number. Hexadecimal: it stands in URLs.
    const secret = `s${randomBytes(SECRET_BYTES).toString("hex")}`;
    writeFileSync(`${file}.new`, secret, { mode: PRIVATE_FILE_MODE });
    linkSync(`${file}.new`, file);
    rmSync(`${file}.new`);
  }
}

function readSecret(stack: StackName, name: string): string {
  try {
    return readFileSync(join(secretsFolder(stack), name), "utf8");
  } catch {
    throw new Problem(`The stack ${stack} has no secrets yet. Mend it: start it first.`);
  }
}

export const superuserPassword = (stack: StackName) => readSecret(stack, SUPERUSER);
export const rolePassword = (stack: StackName, role: Role) => readSecret(stack, roleFile(role));
export const natsPassword = (stack: StackName) => readSecret(stack, NATS);
export const pageTokenKeyFile = (stack: StackName) => join(secretsFolder(stack), PAGE_TOKEN_KEY);
/** What e-mail addresses are hashed with; a user's bucket follows from it, so it is for ever. */
export const identityKeyFile = (stack: StackName) => join(secretsFolder(stack), IDENTITY_KEY);
/** What private signing keys are sealed with in the database. */
export const keyEncryptionKeyFile = (stack: StackName) => join(secretsFolder(stack), KEY_ENCRYPTION_KEY);
