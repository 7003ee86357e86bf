import { dirname, join } from "node:path";
import { toolsFolder } from "#infra/local/paths.mjs";

const goFolder = join(toolsFolder, "go");

export const GHZ_VERSION = "0.93.0";

/** Where ghz is built to. The path names the version, because ghz itself does not know it when built from source. */
export const ghzFile = join(goFolder, `ghz-${GHZ_VERSION}`, "ghz");

/** Where our own Go client is built to. */
export const loadClientFile = join(goFolder, "bin", "ledgermesh-load");

/** What Go runs with: everything it fetches and builds stays in the checkout, and can be removed like any other file. */
export function goEnvironment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    GOPATH: goFolder,
    GOBIN: dirname(ghzFile),
    GOMODCACHE: join(goFolder, "mod"),
    GOCACHE: join(goFolder, "cache"),
    GOFLAGS: "-modcacherw -buildvcs=false",
    GOTOOLCHAIN: "local",
    CGO_ENABLED: "0",
  };
}

/** What a make of another checkout runs with: nothing of the make that may have started us. */
export function outerEnvironment(): NodeJS.ProcessEnv {
  const { MAKEFLAGS: _, MFLAGS: __, MAKELEVEL: ___, ...environment } = process.env;
  return environment;
}
