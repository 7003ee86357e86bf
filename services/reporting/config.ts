import { type AccessSettings, accessSettings } from "#lib/access-settings.ts";
import { requiredPort, requiredSecretFile, requiredText, requiredTlsFiles } from "#lib/environment.ts";
import type { TlsFiles } from "#lib/tls.ts";

export interface Config {
  readonly elasticsearchUrl: string;
  readonly natsUrl: string;
  readonly grpcPort: number;
  readonly healthPort: number;
  readonly tls: TlsFiles;
  readonly access: AccessSettings;
  /** host:port */
  readonly identityAddress: string;
  readonly pageTokenKey: Buffer;
}

export function config(): Config {
  return {
    elasticsearchUrl: requiredText(process.env, "LEDGERMESH_ELASTICSEARCH_URL"),
    natsUrl: requiredText(process.env, "LEDGERMESH_NATS_URL"),
    grpcPort: requiredPort(process.env, "LEDGERMESH_GRPC_PORT"),
    healthPort: requiredPort(process.env, "LEDGERMESH_HEALTH_PORT"),
    tls: requiredTlsFiles(process.env),
    access: accessSettings(process.env),
    identityAddress: requiredText(process.env, "LEDGERMESH_IDENTITY_ADDRESS"),
    pageTokenKey: requiredSecretFile(process.env, "LEDGERMESH_PAGE_TOKEN_KEY_FILE"),
  };
}
