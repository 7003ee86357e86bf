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

/** Why a shard could not be read, for people: without the password of its connection string. */
export function whyUnreadable(connectionString: string, error: unknown): string {
  return `${addressOf(connectionString)}: ${error instanceof Error ? describe(error) : String(error)}`;
}

function addressOf(connectionString: string): string {
  if (!URL.canParse(connectionString)) return "the connection string is no URL";
  const { host, pathname } = new URL(connectionString);
  return `${host}${pathname}`;
}

/** A refused connection to several addresses has no message of its own. */
function describe(error: Error): string {
  const errors = error instanceof AggregateError ? (error.errors as Error[]) : [error];
  return errors.map(({ message }) => message).join("; ");
}

/** Why a database is not the shard that it was given as, one of so many; undefined when it is. */
export function whyNotShard(
  shard: number,
  shardCount: number,
  is: { readonly shard: number; readonly shardCount: number },
): string | undefined {
  if (is.shard !== shard)
    return `the database given as shard ${shard} is shard ${is.shard}: mend the order of the connections`;
  if (is.shardCount !== shardCount)
    return `the system has ${is.shardCount} shards, and ${shardCount} are given: name them all`;
  return undefined;
}
