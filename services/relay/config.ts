import { requiredList, requiredPort, requiredText } from "#lib/environment.ts";

export interface Config {
  /** Connection strings of every shard under the role `relay`: shard 1 first. */
  readonly shards: readonly string[];
  readonly natsUrl: string;
  readonly healthPort: number;
  /** Copies of the stream: 1 on one machine, 3 in production. */
  readonly streamReplicas: number;
}

export function config(): Config {
  const replicas = process.env.LEDGERMESH_STREAM_REPLICAS ?? "1";
  if (!/^[1-5]$/.test(replicas)) throw new Error(`LEDGERMESH_STREAM_REPLICAS is "${replicas}": 1 to 5 are possible`);
  return {
    shards: requiredList(process.env, "LEDGERMESH_SHARDS"),
    natsUrl: requiredText(process.env, "LEDGERMESH_NATS_URL"),
    healthPort: requiredPort(process.env, "LEDGERMESH_HEALTH_PORT"),
    streamReplicas: Number(replicas),
  };
}
