/** The stack that tests talk to: `test` unless the runner says otherwise. */
export function testStackName(): string {
  return process.env.LEDGERMESH_TEST_STACK ?? "test";
}

/** `SEED` or `SEED:PATH` of a run of the model-based test that is to be repeated; undefined: a new one. */
export function modelSeed(): { readonly seed: number; readonly path: string } | undefined {
  const [seed, ...path] = (process.env.LEDGERMESH_MODEL_SEED ?? "").split(":");
  return seed === undefined || seed === "" ? undefined : { seed: Number(seed), path: path.join(":") };
}

/** How many runs of the model-based test, and of how many steps each. */
export function modelBounds(): { readonly runs: number; readonly steps: number } {
  const { LEDGERMESH_MODEL_RUNS = "20", LEDGERMESH_MODEL_STEPS = "100" } = process.env;
  return { runs: Number(LEDGERMESH_MODEL_RUNS), steps: Number(LEDGERMESH_MODEL_STEPS) };
}

/** What a command that a test starts sees of the world. */
export function commandEnvironment(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  return { ...process.env, ...more };
}

/** Of tests/openapi-fuzz.test.ts: how many requests each operation gets, and the seed of a run that is to be repeated. */
export function fuzzBounds(): { readonly examples: number; readonly seed: number | undefined } {
  const { LEDGERMESH_FUZZ_EXAMPLES = "", LEDGERMESH_FUZZ_SEED = "" } = process.env;
  return {
    examples: Number(LEDGERMESH_FUZZ_EXAMPLES === "" ? "12" : LEDGERMESH_FUZZ_EXAMPLES),
    seed: LEDGERMESH_FUZZ_SEED === "" ? undefined : Number(LEDGERMESH_FUZZ_SEED),
  };
}
