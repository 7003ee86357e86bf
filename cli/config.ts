import { requiredList } from "#lib/environment.ts";

const AUDIT_SHARDS = "LEDGERMESH_AUDIT_SHARDS";

/** Connection strings of all shards for reading, shard 1 first; undefined when the environment does not say. They hold a
 * password, which is why they are no argument: every user of the machine sees those. */
export function auditShards(): string[] | undefined {
  return process.env[AUDIT_SHARDS] === undefined ? undefined : requiredList(process.env, AUDIT_SHARDS);
}
