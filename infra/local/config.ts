import { delimiter } from "node:path";
import { compileCacheFolder, nodeBinFolder } from "#infra/local/paths.mjs";
import { requiredPort } from "#lib/environment.ts";

export const PORT_VARIABLE_PREFIX = "LEDGERMESH_PORT_";

/** The environment variable that changes one port, for example LEDGERMESH_PORT_GATEWAY. */
export function portVariable(port: string): string {
  return `${PORT_VARIABLE_PREFIX}${port.toUpperCase()}`;
}

/** The variables about ports that are set, also those of ports that do not exist. */
export function portVariables(): string[] {
  return Object.keys(process.env).filter((name) => name.startsWith(PORT_VARIABLE_PREFIX));
}

export function portOverride(port: string): string | undefined {
  return process.env[portVariable(port)];
}

/** What the parts may see of our own environment: nothing that changes with the person who starts them. */
const INHERITED = ["HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "NODE_OPTIONS"];

export function inheritedEnvironment(): Record<string, string> {
  const kept = INHERITED.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
  return {
    ...Object.fromEntries(kept),
    NODE_COMPILE_CACHE: compileCacheFolder,
    PATH: `${nodeBinFolder}${delimiter}${process.env.PATH ?? ""}`,
  };
}

/** The ports of the local mail server, which the launcher gives it. */
export function mailPorts(): { readonly smtp: number; readonly http: number } {
  return {
    smtp: requiredPort(process.env, "LEDGERMESH_MAIL_PORT"),
    http: requiredPort(process.env, "LEDGERMESH_MAIL_HTTP_PORT"),
  };
}
