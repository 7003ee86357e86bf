/** The environment of the run itself: as ours, and the tests' shared code talks to this stack. */
export function runEnvironment(stack: string): NodeJS.ProcessEnv {
  return { ...process.env, LEDGERMESH_TEST_STACK: stack };
}
