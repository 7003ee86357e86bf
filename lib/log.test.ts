import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "#lib/log.ts";

const CANARY = "do-not-write-this";

function logged(write: (log: ReturnType<typeof createLogger>) => void): string {
  const lines: string[] = [];
  write(createLogger("test", { write: (line: string) => void lines.push(line) }));
  return lines.join("");
}

test("secrets and what is personal are cut out at every level, in objects, lists and errors", () => {
  const names = [
    ..."password newPassword token accessToken refreshToken access_token refresh_token authorization cookie totp code".split(
      " ",
    ),
    ..."secret recoveryCode connectionString email phone address userAgent recipient".split(" "),
  ];
  for (const name of names) {
    const text = logged((log) => {
      const object = { [name]: CANARY, kept: "fine" };
      log.info(object, "one");
      log.info({ request: object }, "two");
      log.info({ call: { request: object } }, "three");
      log.info({ users: [object, object] }, "in a list");
      log.info({ batch: { users: [object] } }, "in a list further down");
      log.child({ [name]: CANARY }).info("a child's own");
      log.child({ more: "x" }).error({ request: object }, "of a child");
    });
    assert.doesNotMatch(text, new RegExp(CANARY), name);
    assert.equal(text.match(/"kept":"fine"/g)?.length, 7, name);
    assert.equal(text.match(/\[redacted\]/g)?.length, 8, name);
  }
});

test("of an error of Postgres the code stays, and the row that it quotes goes", () => {
  const error = Object.assign(new Error("duplicate key value violates unique constraint"), {
    code: "23505",
    detail: `Key (email)=(${CANARY}) already exists.`,
    where: `COPY users, line 1: "${CANARY}"`,
  });
  const text = logged((log) => log.error({ err: error }, "a call failed"));
  assert.doesNotMatch(text, new RegExp(CANARY));
  assert.match(text, /"code":"23505"/);
  assert.match(text, /duplicate key value/);
});

test("a token or a URL's password in the midst of a text is cut out", () => {
  const token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl";
  const text = logged((log) => {
    log.warn({ error: `Error: Bearer ${token} was refused` }, `header: Bearer ${token}`);
    log.warn({ error: "connect postgres://ledger:s3cr3t@127.0.0.1:5501/ledgermesh failed" }, "down");
  });
  assert.doesNotMatch(text, /eyJ|s3cr3t|c2lnbmF0dXJl/);
  assert.match(text, /postgres:\/\/ledger:\[redacted\]@127\.0\.0\.1/);
  for (const line of text.trim().split("\n")) assert.equal((JSON.parse(line) as { service: string }).service, "test");
});
