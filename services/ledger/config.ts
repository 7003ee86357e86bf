import { type AccessSettings, accessSettings } from "#lib/access-settings.ts";
import {
  isPlaintextForMeasuring,
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
  readonly natsUrl: string;
  readonly grpcPort: number;
  readonly healthPort: number;
  readonly tls: TlsFiles;
  /** It serves plain text, and asks nobody who they are. */
  readonly isPlaintext: boolean;
  readonly access: AccessSettings;
  /** host:port */
  readonly identityAddress: string;
  readonly pageTokenKey: Buffer;
  /** How long a key answers a repeated call (docs/maintenance.md). */
  readonly keyRetentionDays: number;
}

const DEFAULT_KEY_RETENTION_DAYS = "30";

export function config(): Config {
  const environment = process.env;
  const keyRetention = environment.LEDGERMESH_KEY_RETENTION_DAYS ?? DEFAULT_KEY_RETENTION_DAYS;
  if (!/^[1-9]\d{0,3}$/.test(keyRetention)) {
    throw new Error(`LEDGERMESH_KEY_RETENTION_DAYS is "${keyRetention}": 1 to 9999 are possible`);
  }
  return {
    shards: requiredList(environment, "LEDGERMESH_SHARDS"),
    natsUrl: requiredText(environment, "LEDGERMESH_NATS_URL"),
    grpcPort: requiredPort(environment, "LEDGERMESH_GRPC_PORT"),
    healthPort: requiredPort(environment, "LEDGERMESH_HEALTH_PORT"),
    tls: requiredTlsFiles(environment),
    isPlaintext: isPlaintextForMeasuring(environment),
    access: accessSettings(environment),
    identityAddress: requiredText(environment, "LEDGERMESH_IDENTITY_ADDRESS"),
    pageTokenKey: requiredSecretFile(environment, "LEDGERMESH_PAGE_TOKEN_KEY_FILE"),
    keyRetentionDays: Number(keyRetention),
  };
}
