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
