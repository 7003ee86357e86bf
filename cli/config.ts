import { requiredList, requiredTlsFiles } from "#lib/environment.ts";
import type { TlsFiles } from "#lib/tls.ts";

const AUDIT_SHARDS = "LEDGERMESH_AUDIT_SHARDS";

/** Connection strings of all shards for reading, shard 1 first; undefined when the environment does not say. They hold a
 * password, which is why they are no argument: every user of the machine sees those. */
export function auditShards(): string[] | undefined {
  return process.env[AUDIT_SHARDS] === undefined ? undefined : requiredList(process.env, AUDIT_SHARDS);
}

/** The token to call the gateway with; undefined when the environment does not say. */
export function accessTokenSetting(): string | undefined {
  return process.env.LEDGERMESH_ACCESS_TOKEN;
}

/** The certificate to call the ledger with; undefined when the environment does not say. */
export function tlsSettings(): TlsFiles | undefined {
  const named = Object.keys(process.env).some((name) => name.startsWith("LEDGERMESH_TLS_"));
  return named ? requiredTlsFiles(process.env) : undefined;
}
