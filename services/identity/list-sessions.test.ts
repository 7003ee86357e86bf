import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { identity } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("a user sees their own sessions, newest first, page by page, and which one asks", async () => {
  const user = await signUp();
  const opened = [];
  for (let index = 0; index < 5; index += 1) opened.push(await signIn(user));
  const stranger = await signIn(await signUp());
  const headers = bearer(opened[2] ?? stranger);
  const seen: string[] = [];
  let pageToken = "";
  for (let page = 0; page < 3; page += 1) {
    const { response } = await call(identity, identity.listSessions, { pageSize: 2, pageToken }, headers);
    seen.push(...response.sessions.map(({ sessionId }) => sessionId));
    for (const { sessionId, current } of response.sessions) assert.equal(current, sessionId === opened[2]?.sessionId);
    assert.equal(response.hasMore, page < 2);
    pageToken = response.nextPageToken;
  }
  assert.deepEqual(seen, opened.map(({ sessionId }) => sessionId).toReversed());
});

test("a page token is the caller's own", async () => {
  const user = await signUp();
  const [first] = [await signIn(user), await signIn(user)];
  const { response } = await call(identity, identity.listSessions, { pageSize: 1, pageToken: "" }, bearer(first));
  const stranger = bearer(await signIn(await signUp()));
  const pageToken = response.nextPageToken;
  await assert.rejects(call(identity, identity.listSessions, { pageSize: 1, pageToken }, stranger), {
    reason: "PAGE_TOKEN_INVALID",
  });
  await assert.rejects(call(identity, identity.listSessions, { pageSize: 501, pageToken: "" }, bearer(first)), {
    fields: ["page_size"],
  });
});
