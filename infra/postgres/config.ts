import { readFileSync } from "node:fs";
import { join } from "node:path";
import { requiredList, requiredText } from "#lib/environment.ts";

export interface MigrateConfig {
  /** Superuser connection strings of every shard, in shard order. */
  readonly shards: readonly string[];
  /** The password of a service's role. */
  readonly passwordOf: (role: string) => string;
}

export function migrateConfig(): MigrateConfig {
  const folder = requiredText(process.env, "LEDGERMESH_ROLE_PASSWORDS_DIR");
  return {
    shards: requiredList(process.env, "LEDGERMESH_MIGRATE_SHARDS"),
    passwordOf: (role) => readFileSync(join(folder, `postgres-role-${role}`), "utf8").trim(),
  };
}
