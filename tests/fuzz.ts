import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fuzzCommand } from "#infra/local/paths.mjs";
import { fuzzBounds } from "#tests/config.ts";
import { restUrl } from "#tests/stack.ts";

/**
 * Runs schemathesis: it makes up requests from the OpenAPI document that the gateway serves and holds every answer against it. No
 * 5xx, no status, type, header or body that the document does not have, no error without its listed reason (tests/fuzz/hooks.py).
 */

const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
  "errors_are_listed",
];
const MAX_SEED = 2 ** 31;

/** What is asked, and as whom. */
export interface FuzzRun {
  readonly token: string;
  /** Values that exist, by the names of the fields that take them. */
  readonly pool: Readonly<Record<string, readonly string[]>>;
  /** Options that pick operations: `--include-tag`, `Ledger`. */
  readonly selected: readonly string[];
  /** `coverage`: each rule of the document kept and broken; `fuzzing`: well-formed requests by chance, from the seed. */
  readonly phase: "coverage" | "fuzzing";
}

/** That of the environment, or a new one. */
export function fuzzSeed(): number {
  return fuzzBounds().seed ?? Math.floor(Math.random() * MAX_SEED);
}

/** Answers what it found, with how to repeat it; "" when it found nothing. Rejects when it cannot run. */
export async function fuzz({ token, pool, selected, phase }: FuzzRun, seed: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "ledgermesh-fuzz-"));
  const poolFile = join(folder, "pool.json");
  writeFileSync(poolFile, JSON.stringify(pool));
  const options = {
    "--url": restUrl,
    "--checks": CHECKS.join(","),
    "--phases": phase,
    "--mode": phase === "coverage" ? "all" : "positive",
    "--max-examples": String(fuzzBounds().examples),
    "--seed": String(seed),
    "--header": `authorization: Bearer ${token}`,
    "--suppress-health-check": "all",
    "--warnings": "off",
    // With several, Python 3.11 fails now and then while it reads its own source ("recursion depth mismatch").
    "--workers": "1",
    "--request-timeout": "15",
    "--generation-database": "none",
  };
  const environment = {
    PATH: "/usr/bin:/bin",
    HOME: folder,
    PYTHONPATH: join(import.meta.dirname, "fuzz"),
    PYTHONDONTWRITEBYTECODE: "1",
    SCHEMATHESIS_HOOKS: "hooks",
    LEDGERMESH_FUZZ_POOL_FILE: poolFile,
  };
  const args = ["run", `${restUrl}/openapi.json`, "--no-color", ...Object.entries(options).flat(), ...selected];
  try {
    const child = spawn(fuzzCommand, args, { cwd: folder, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const status = await new Promise<number>((resolve, reject) => {
      child.once("error", () => reject(new Error(`${fuzzCommand} is missing. Mend it: make test`)));
      child.once("close", (code) => resolve(code ?? 1));
    });
    return status === 0 ? "" : `seed ${seed}: make fuzz SEED=${seed} repeats it\n${output}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
