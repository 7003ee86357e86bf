import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { inheritedEnvironment } from "#infra/local/config.ts";
import { developmentKeyFile } from "#infra/local/development-key.ts";
import { accessTokens } from "#lib/access-token.ts";
import { createLogger } from "#lib/log.ts";
import { openSigningKeys } from "#lib/signing-keys.ts";
import { run } from "#tests/command-line.ts";
import { newOwner, stackName } from "#tests/stack.ts";

const log = createLogger("test");
log.level = "silent";

const keys = await openSigningKeys(() => Promise.resolve([]), readFileSync(developmentKeyFile(stackName), "utf8"), log);
await keys.stop();
const tokens = accessTokens("https://ledgermesh", keys, Date.now);

/** Standard output of `ledgermesh token`, which must have worked without another word. */
async function tokenOf(...args: string[]): Promise<string> {
  const { exitStatus, stdout, stderr } = await run(["token", "--stack", stackName, ...args]);
  assert.deepEqual([exitStatus, stderr], [0, ""]);
  return stdout;
}

test("the command prints a token of the role asked for, and nothing else", async () => {
  const user = newOwner();
  const person = { userId: user, sessionId: undefined, secondFactor: false };
  const cases = [
    [[], { role: "SERVICE", name: "console" }],
    [["--role", "service", "--name", "rates-feed"], { role: "SERVICE", name: "rates-feed" }],
    [["--role", "operator", "--user", user], { ...person, role: "OPERATOR", secondFactor: true }],
    [["--role", "merchant", "--user", user], { ...person, role: "MERCHANT" }],
    [["--role", "USER", "--user", user, "--second-factor"], { ...person, role: "USER", secondFactor: true }],
  ] as const;
  for (const [args, principal] of cases) {
    const text = await tokenOf(...args);
    assert.match(text, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    assert.deepEqual(await tokens.principalOf(text.trim()), principal);
  }
});

test("make prints the same, whatever user the shell has", async () => {
  const { stdout, stderr } = await promisify(execFile)("make", ["-s", "token", "ROLE=user", `STACK=${stackName}`], {
    cwd: dirname(import.meta.dirname),
    env: { ...inheritedEnvironment(), USER: "somebody" },
  });
  assert.equal(stderr, "");
  const principal = await tokens.principalOf(stdout.trim());
  assert.equal(principal.role, "USER");
});

test("as JSON it says whose the token is and until when", async () => {
  const made = JSON.parse(await tokenOf("--json")) as Record<string, string>;
  assert.deepEqual(Object.keys(made), ["token", "role", "subject", "expire_time"]);
  assert.equal(made.subject, "service:console");
  const leftMs = Date.parse(made.expire_time ?? "") - Date.now();
  assert.ok(leftMs > 3_500_000 && leftMs <= 3_600_000, `${leftMs} ms are left`);
});

test("what cannot be made is said in one line", async () => {
  const cases: [string[], RegExp][] = [
    [["--role", "root"], /^There is no role "root"\. Mend it: give one of service, operator, merchant, user\.\n$/],
    [["--role", "user", "--user", "acct_01jb800000e00r000000000001"], /^".*" is no id of a user\..*\n$/],
    [["--user", newOwner()], /^A service is no user\..*\n$/],
    [["--role", "user", "--name", "x"], /^A user has an id, not a name\..*\n$/],
    [["--name", "a b"], /^"a b" is no name of a service\..*\n$/],
    [["--stack", "nowhere"], /^There is no stack nowhere\..*\n$/],
  ];
  for (const [args, said] of cases) {
    const { exitStatus, stdout, stderr } = await run(["token", ...args]);
    assert.deepEqual([exitStatus, stdout], [2, ""]);
    assert.match(stderr, said);
  }
});

test("where the launcher made no key there are no tokens", async () => {
  const file = join(dirname(developmentKeyFile("launcher")), "development-token.key");
  const aside = existsSync(file);
  if (aside) renameSync(file, `${file}.aside`);
  try {
    const { exitStatus, stdout, stderr } = await run(["token", "--stack", "launcher"]);
    assert.deepEqual([exitStatus, stdout], [2, ""]);
    assert.match(stderr, /^The stack launcher has no development key here: .* local development stacks only\..*\n$/);
  } finally {
    if (aside) renameSync(`${file}.aside`, file);
  }
});

test("nobody else on the machine can read the key", () => {
  for (const file of ["development-token.key", "development-token.pub"]) {
    assert.equal(statSync(join(dirname(developmentKeyFile(stackName)), file)).mode & 0o077, 0, file);
  }
});
