import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { makeCertificates } from "#tests/certificates.ts";

const DEADLINE_MS = 30_000;

/** The commands, with nothing of the world but this. */
function demo(env: Record<string, string>): Promise<string> {
  return new Promise((resolve) => {
    const args = ["cli/main.ts", "demo", "--ledger", "127.0.0.1:1"];
    execFile(process.execPath, args, { env, timeout: DEADLINE_MS }, (error, _, stderr) => {
      assert.ok(error, "it must not succeed");
      resolve(stderr);
    });
  });
}

test("a certificate that cannot be used is said in one line, with its remedy", async () => {
  const { files } = await makeCertificates();
  const { caFile, certificateFile, keyFile } = files("console");
  const named = {
    LEDGERMESH_TLS_CA_FILE: caFile,
    LEDGERMESH_TLS_CERTIFICATE_FILE: certificateFile,
    LEDGERMESH_TLS_KEY_FILE: keyFile,
  };
  const cases: [env: Record<string, string>, said: RegExp][] = [
    [
      { ...named, LEDGERMESH_TLS_KEY_FILE: "nowhere.key" },
      /^The certificate to call with cannot be used: ENOENT.* Mend it: make start/m,
    ],
    [{ ...named, LEDGERMESH_TLS_KEY_FILE: files("ledger").keyFile }, /cannot be used: .*key values mismatch/],
    [{ LEDGERMESH_TLS_CA_FILE: caFile }, /LEDGERMESH_TLS_CERTIFICATE_FILE is not set/],
    [named, /^No ledger answers at 127\.0\.0\.1:1\. Start it with: make start/m],
  ];
  for (const [env, said] of cases) {
    const stderr = await demo(env);
    assert.match(stderr, said);
    assert.doesNotMatch(stderr, /^ {4}at /m);
  }
});
