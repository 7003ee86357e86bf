import { auditShards } from "#cli/config.ts";
import { shardUrls } from "#infra/local/endpoints.ts";
import { isStackName, stackNames } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";

/**
 * Connection strings of all shards for commands that only read, shard 1 first: those of a local stack (role `auditor`), or
 * what LEDGERMESH_AUDIT_SHARDS says, or those of the local stack `dev`. Throws a Problem when there is no such stack.
 */
export function auditorShards(stack: string | undefined): readonly string[] {
  if (stack === undefined) return auditShards() ?? shardUrls("dev", "auditor");
  if (!isStackName(stack))
    throw new Problem(`There is no stack ${stack}. Mend it: use one of ${stackNames.join(", ")}.`);
  return shardUrls(stack, "auditor");
}
