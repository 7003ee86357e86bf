import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { renderBootstrap } from "#gateway/bootstrap.ts";
import { readConfig } from "#gateway/config.ts";
import { type ClusterName, readContract } from "#gateway/contract.ts";

/** The services that are reachable from outside. A service that is not named here does not exist for the gateway. */
const SERVICES: Readonly<Record<string, ClusterName>> = {
  "ledgermesh.ledger.v1.LedgerService": "ledger",
  "ledgermesh.reporting.v1.HistoryService": "reporting",
};

/** Writes the configuration of Envoy: `node gateway/render-config.ts --out FILE`. */
const { values: args } = parseArgs({ options: { out: { type: "string" } } });
if (args.out === undefined) throw new Error("--out FILE is missing");

const root = new URL("./", import.meta.url);
const source = (name: string) => readFileSync(new URL(name, root), "utf8");
const descriptorSet = readFileSync(new URL("../generated/descriptors.binpb", root));
const bootstrap = renderBootstrap(readConfig(), readContract(descriptorSet, SERVICES), descriptorSet, {
  values: source("values.lua"),
  checkBody: source("check-body.lua"),
  checkQuery: source("check-query.lua"),
  filter: source("filter.lua"),
});

// Whole or not at all: Envoy may start while it is written.
writeFileSync(`${args.out}.new`, JSON.stringify(bootstrap, undefined, 1));
renameSync(`${args.out}.new`, args.out);
