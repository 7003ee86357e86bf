import { type AccessSettings, accessSettings } from "#lib/access-settings.ts";
import { TOKEN_ISSUER } from "#lib/access-token.ts";
import {
  type Environment,
  requiredList,
  requiredPort,
  requiredSecretFile,
  requiredText,
  requiredTlsFiles,
} from "#lib/environment.ts";
import type { TlsFiles } from "#lib/tls.ts";

export interface Config {
  /** Connection strings of every shard, in shard order. */
  readonly shards: readonly string[];
  readonly grpcPort: number;
  readonly healthPort: number;
  readonly tls: TlsFiles;
  readonly access: AccessSettings;
  readonly pageTokenKey: Buffer;
  /** What e-mail addresses and requests are hashed with. */
  readonly identityKey: Buffer;
  /** What private signing keys are sealed with. */
  readonly keyEncryptionKey: Buffer;
  /** How long a key signs before the next takes its place. */
  readonly signingKeyDays: number;
  /** `iss` of the access tokens. */
  readonly tokenIssuer: string;
  /** host:port of the ledger. */
  readonly ledgerAddress: string;
  /** Where e-mails are handed over, and whom they are from. */
  readonly mail: { readonly smtpUrl: string; readonly from: string };
  /** Of attempts to sign up or in from one client address. */
  readonly addressLimit: { readonly burst: number; readonly perSecond: number };
}

const DEFAULT_MAIL_FROM = "Ledgermesh <no-reply@ledgermesh.example>";
const DEFAULT_SIGNING_KEY_DAYS = 30;
const DEFAULT_ADDRESS_BURST = 100;
const DEFAULT_ADDRESS_PER_SECOND = 5;

export function config(): Config {
  const environment = process.env;
  return {
    shards: requiredList(environment, "LEDGERMESH_SHARDS"),
    grpcPort: requiredPort(environment, "LEDGERMESH_GRPC_PORT"),
    healthPort: requiredPort(environment, "LEDGERMESH_HEALTH_PORT"),
    tls: requiredTlsFiles(environment),
    access: accessSettings(environment),
    pageTokenKey: requiredSecretFile(environment, "LEDGERMESH_PAGE_TOKEN_KEY_FILE"),
    identityKey: requiredSecretFile(environment, "LEDGERMESH_IDENTITY_KEY_FILE"),
    keyEncryptionKey: requiredSecretFile(environment, "LEDGERMESH_KEY_ENCRYPTION_KEY_FILE"),
    signingKeyDays: positiveNumber(environment, "LEDGERMESH_SIGNING_KEY_DAYS", DEFAULT_SIGNING_KEY_DAYS),
    ledgerAddress: requiredText(environment, "LEDGERMESH_LEDGER_ADDRESS"),
    mail: {
      smtpUrl: requiredText(environment, "LEDGERMESH_SMTP_URL"),
      from: environment.LEDGERMESH_MAIL_FROM ?? DEFAULT_MAIL_FROM,
    },
    tokenIssuer: environment.LEDGERMESH_TOKEN_ISSUER ?? TOKEN_ISSUER,
    addressLimit: {
      burst: positiveNumber(environment, "LEDGERMESH_SIGN_IN_ADDRESS_BURST", DEFAULT_ADDRESS_BURST),
      perSecond: positiveNumber(environment, "LEDGERMESH_SIGN_IN_ADDRESS_PER_SECOND", DEFAULT_ADDRESS_PER_SECOND),
    },
  };
}

function positiveNumber(environment: Environment, name: string, otherwise: number): number {
  const text = environment[name];
  if (text === undefined || text === "") return otherwise;
  const value = Number(text);
  if (!(value >= 1 && value <= 1_000_000)) throw new Error(`${name} is "${text}": 1 to 1000000 are possible`);
  return value;
}
