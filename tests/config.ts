/** The stack that tests talk to: `test` unless the runner says otherwise. */
export function testStackName(): string {
  return process.env.LEDGERMESH_TEST_STACK ?? "test";
}
