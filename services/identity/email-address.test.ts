import assert from "node:assert/strict";
import { test } from "node:test";
import { bucketOfEmailKey, normalizeEmail } from "#services/identity/email-address.ts";
import { identityKeys } from "#services/identity/identity-keys.ts";

test("addresses that reach one mailbox are one address", () => {
  for (const text of ["Ada@Example.COM", "ada@example.com", "ＡＤＡ@example.com"]) {
    assert.equal(normalizeEmail(text), "ada@example.com");
  }
  assert.equal(normalizeEmail("ada@bücher.example"), "ada@xn--bcher-kva.example");
  assert.equal(normalizeEmail("ada+shop.x@mail.example.org"), "ada+shop.x@mail.example.org");
});

test("what is no address, or could break out of a header, is refused", () => {
  for (const text of [
    "",
    "@",
    "ada",
    "ada@",
    "@example.com",
    "ada@localhost",
    "a da@example.com",
    "ada@example.com\r\nBcc: x@example.com",
    "ada@@example.com",
    '"ada"@example.com',
    "ada.@example.com",
    ".ada@example.com",
    "ada@exam ple.com",
    "ada@-x.com",
    "<ada@example.com>",
    "ada@example.com,eve@example.com",
    "ada\u0000@example.com",
    `${"a".repeat(65)}@example.com`,
    `ada@${"a.".repeat(130)}com`,
    "ada@[127.0.0.1]",
    "ada@127.0.0.1",
  ])
    assert.equal(normalizeEmail(text), undefined, JSON.stringify(text));
});

test("an address's bucket is a user bucket, spread evenly, and follows from the secret", () => {
  const [keys, other] = [identityKeys(Buffer.alloc(32, 1)), identityKeys(Buffer.alloc(32, 2))];
  const buckets = Array.from({ length: 5_000 }, (_, index) =>
    bucketOfEmailKey(keys.emailKey(`user${index}@example.com`)),
  );
  assert.ok(Math.max(...buckets) < 3840);
  assert.ok(new Set(buckets).size > 2_500);
  assert.equal(keys.emailKey("a@b.cz").length, 32);
  assert.notDeepEqual(keys.emailKey("a@b.cz"), other.emailKey("a@b.cz"));
  assert.throws(() => identityKeys(Buffer.alloc(8)), /32 bytes/);
});
