import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { renderBootstrap } from "#gateway/bootstrap.ts";
import { type GatewayConfig, readConfig } from "#gateway/config.ts";
import { type ClusterName, readContract } from "#gateway/contract.ts";
import { referenceFiles } from "#gateway/reference-page.ts";
import { secretFiles } from "#gateway/secrets.ts";

/** The services that are reachable from outside. A service that is not named here does not exist for the gateway. */
export const SERVICES: Readonly<Record<string, ClusterName>> = {
  "ledgermesh.ledger.v1.LedgerService": "ledger",
  "ledgermesh.reporting.v1.HistoryService": "reporting",
  "ledgermesh.identity.v1.IdentityService": "identity",
};

/**
 * The configuration of Envoy as JSON, from the generated descriptor set and the Lua files beside this one. The files of
 * secrets.ts are to lie in the folder.
 */
export function renderConfig(config: GatewayConfig, secretsFolder: string): string {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url));
  const descriptorSet = read("../generated/descriptors.binpb");
  const lua = {
    values: read("values.lua").toString(),
    checkBody: read("check-body.lua").toString(),
    checkQuery: read("check-query.lua").toString(),
    filter: read("filter.lua").toString(),
  };
  const { referenceScriptFile: script } = config;
  const reference = script === undefined ? [] : referenceFiles(script, read("openapi.json").toString());
  const bootstrap = renderBootstrap(config, readContract(descriptorSet, SERVICES), lua, reference, secretsFolder);
  return JSON.stringify(bootstrap, undefined, 1);
}

/** `node gateway/render-config.ts --out FILE` */
if (import.meta.main) {
  const { out } = parseArgs({ options: { out: { type: "string" } } }).values;
  if (out === undefined) throw new Error("--out FILE is missing");
  const config = readConfig();
  const folder = dirname(resolve(out));
  for (const [name, text] of [...secretFiles(config), [basename(out), renderConfig(config, folder)] as const]) {
    const file = join(folder, name);
    // Whole or not at all.
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  }
}
