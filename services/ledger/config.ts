import { requiredList, requiredPort, requiredSecretFile, requiredText } from "#lib/environment.ts";

export interface Config {
  /** Connection strings of every shard, in shard order. */
  readonly shards: readonly string[];
  readonly natsUrl: string;
  readonly grpcPort: number;
  readonly healthPort: number;
  readonly pageTokenKey: Buffer;
}

export function config(): Config {
  const environment = process.env;
  return {
    shards: requiredList(environment, "LEDGERMESH_SHARDS"),
    natsUrl: requiredText(environment, "LEDGERMESH_NATS_URL"),
    grpcPort: requiredPort(environment, "LEDGERMESH_GRPC_PORT"),
    healthPort: requiredPort(environment, "LEDGERMESH_HEALTH_PORT"),
    pageTokenKey: requiredSecretFile(environment, "LEDGERMESH_PAGE_TOKEN_KEY_FILE"),
  };
}
