import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { accessSettings } from "#lib/access-settings.ts";

const folder = mkdtempSync(join(tmpdir(), "ledgermesh-access-"));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, "key.pub");
writeFileSync(file, "PEM");

test("a development key is taken only where it is said to be a development system", () => {
  const withKey = { LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE: file };
  const settings = accessSettings({ ...withKey, LEDGERMESH_ENVIRONMENT: "development" });
  assert.deepEqual(settings, { issuer: "https://ledgermesh", developmentKey: "PEM" });
  for (const environment of [{}, { LEDGERMESH_ENVIRONMENT: "production" }, { LEDGERMESH_ENVIRONMENT: "staging" }]) {
    assert.throws(() => accessSettings({ ...withKey, ...environment }), /would be anybody/);
  }
});

test("without one the environment may be any", () => {
  for (const environment of [{}, { LEDGERMESH_ENVIRONMENT: "production", LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE: "" }]) {
    assert.equal(accessSettings(environment).developmentKey, undefined);
  }
  assert.equal(accessSettings({ LEDGERMESH_TOKEN_ISSUER: "https://pay.example" }).issuer, "https://pay.example");
});
