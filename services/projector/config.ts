import { requiredList, requiredPort, requiredText } from "#lib/environment.ts";

export interface Config {
  /** Connection strings of every shard under the role `projector`: shard 1 first. */
  readonly shards: readonly string[];
  readonly natsUrl: string;
  readonly elasticsearchUrl: string;
  readonly healthPort: number;
  /** Copies of every index beside the first: 0 on one machine, 1 or more in production. */
  readonly indexReplicas: number;
}

export function config(): Config {
  const replicas = process.env.LEDGERMESH_INDEX_REPLICAS ?? "0";
  if (!/^[0-4]$/.test(replicas)) throw new Error(`LEDGERMESH_INDEX_REPLICAS is "${replicas}": 0 to 4 are possible`);
  return {
    shards: requiredList(process.env, "LEDGERMESH_SHARDS"),
    natsUrl: requiredText(process.env, "LEDGERMESH_NATS_URL"),
    elasticsearchUrl: requiredText(process.env, "LEDGERMESH_ELASTICSEARCH_URL"),
    healthPort: requiredPort(process.env, "LEDGERMESH_HEALTH_PORT"),
    indexReplicas: Number(replicas),
  };
}
