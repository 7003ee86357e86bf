import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { eventually, identity, newId, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

const remove = (sessionId: string, headers: { authorization: string }) =>
  call(identity, identity.deleteSession, { sessionId }, headers);

test("a session that is ended refreshes no more at once, and is told to the services; again gets the same answer", async () => {
  const user = await signUp();
  const [here, there] = [await signIn(user), await signIn(user)];
  const { response } = await remove(there.sessionId, bearer(here));
  assert.ok(response.revokeTime);
  await assert.rejects(
    call(identity, identity.refreshSession, { refreshToken: there.refreshToken, idempotencyKey: "" }),
    { reason: "REFRESH_TOKEN_INVALID" },
  );
  assert.deepEqual((await remove(there.sessionId, bearer(here))).response, response);
  const { response: list } = await call(identity, identity.listSessions, { pageSize: 0, pageToken: "" }, bearer(here));
  assert.deepEqual(
    list.sessions.map(({ sessionId }) => sessionId),
    [here.sessionId],
  );
});

test("whoever signs out is out everywhere within half a minute", async () => {
  const tokens = await signIn(await signUp());
  await remove(tokens.sessionId, bearer(tokens));
  await eventually(
    () =>
      call(identity, identity.getUser, {}, bearer(tokens)).then(
        () => false,
        (error: { reason: string }) => error.reason === "SESSION_REVOKED",
      ),
    "the access token is refused",
    30_000,
  );
});

test("an operator who has no second factor yet can sign out, and nothing else of it", async () => {
  const user = await signUp();
  for (const shard of shardNumbers) {
    await postgres(shard).query("update identity.users set role = 'OPERATOR' where user_id = $1", [
      parseId(user.userId, "user")?.uuid,
    ]);
  }
  const tokens = await signIn(user);
  await assert.rejects(call(identity, identity.getUser, {}, bearer(tokens)), { reason: "SECOND_FACTOR_REQUIRED" });
  assert.ok((await remove(tokens.sessionId, bearer(tokens))).response.revokeTime);
  await assert.rejects(
    call(identity, identity.refreshSession, { refreshToken: tokens.refreshToken, idempotencyKey: "" }),
    { reason: "REFRESH_TOKEN_INVALID" },
  );
});

test("somebody else's session is answered like one that is not there, and goes on", async () => {
  const [ada, eve] = [await signIn(await signUp()), await signIn(await signUp())];
  const absent = newId("sess", 7);
  for (const sessionId of [ada.sessionId, absent]) {
    await assert.rejects(remove(sessionId, bearer(eve)), {
      code: 5,
      reason: "SESSION_NOT_FOUND",
      message: `There is no session ${sessionId}.`,
    });
  }
  await call(identity, identity.refreshSession, { refreshToken: ada.refreshToken, idempotencyKey: "" });
  await assert.rejects(remove("sess_x", bearer(eve)), { code: 3, fields: ["session_id"] });
});
