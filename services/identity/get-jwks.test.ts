import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { identity, postgres } from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

test("the published keys verify the tokens that are given out, and nothing private is published", async () => {
  const { keys } = (await call(identity, identity.getJwks, {})).response;
  const tokens = await signIn(await signUp());
  const [header = "", payload = "", signature = ""] = tokens.accessToken.split(".");
  const { alg, kid } = JSON.parse(Buffer.from(header, "base64url").toString()) as Record<string, string>;
  assert.equal(alg, "EdDSA");
  const key = keys.find((candidate) => candidate.kid === kid);
  assert.ok(key, `${kid} is published`);
  assert.deepEqual(new Set(Object.keys(key)), new Set(["kty", "crv", "x", "kid", "alg", "use"]));
  assert.deepEqual([key.alg, key.crv, key.kty, key.use], ["EdDSA", "Ed25519", "OKP", "sig"]);
  const publicKey = createPublicKey({ key: { kty: key.kty, crv: key.crv, x: key.x }, format: "jwk" });
  const text = Buffer.from(`${header}.${payload}`);
  assert.ok(verify(null, text, publicKey, Buffer.from(signature, "base64url")));
});

test("there is one key that signs, on the first shard, and its private half is sealed", async () => {
  const { rows } = await postgres(1).query<{ private_key_sealed: Buffer }>(
    "select private_key_sealed from identity.signing_keys where state = 'ACTIVE'",
  );
  assert.equal(rows.length, 1);
  // A PKCS #8 key of Ed25519 begins so.
  assert.equal(rows[0]?.private_key_sealed.includes(Buffer.from("302e020100300506032b6570", "hex")), false);
  const { rows: elsewhere } = await postgres(2).query("select from identity.signing_keys");
  assert.deepEqual(elsewhere, []);
});
