import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { uuidToId } from "#lib/ids.ts";
import { createLogger } from "#lib/log.ts";
import { evenBucketRanges } from "#lib/shards.ts";
import { listRevokedSessions } from "#services/identity/list-revoked-sessions.ts";
import { refusals } from "#services/identity/refusals.ts";
import { openShard, type Shard } from "#services/identity/shard.ts";
import { identity, newId, postgres, shardNumbers, stack } from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

const log = createLogger("test");
log.level = "silent";

/** Every session that is told from here on. */
async function read(cursor: string): Promise<{ sessionIds: string[]; cursor: string; pages: number }> {
  const sessionIds: string[] = [];
  for (let pages = 1; ; pages += 1) {
    const { response } = await call(identity, identity.listRevokedSessions, { cursor });
    sessionIds.push(...response.sessionIds);
    cursor = response.cursor;
    if (!response.hasMore) return { sessionIds, cursor, pages };
    assert.ok(pages < 100);
  }
}

async function endSession(): Promise<string> {
  const { refreshToken, sessionId } = await signIn(await signUp());
  const refresh = () => call(identity, identity.refreshSession, { refreshToken, idempotencyKey: "" });
  await refresh();
  await assert.rejects(refresh());
  return sessionId;
}

/** Sessions that were ended so many seconds ago, on a shard. */
async function insertEnded(shard: number, count: number, secondsAgo: number): Promise<string[]> {
  const uuids = Array.from({ length: count }, () => newId("sess", 1)).map((id) => id);
  const { rows } = await postgres(shard).query<{ session_id: string }>(
    `insert into identity.sessions (session_id, bucket, user_id, state, role, second_factor, refresh_hash, address, user_agent,
                                    expires_at, revoked_at, revoke_reason)
     select gen_random_uuid(), 1, gen_random_uuid(), 'REVOKED', 'USER', false, '', '', '', now(), now() - make_interval(secs => $2),
            'SIGNED_OUT' from generate_series(1, $1) returning session_id`,
    [uuids.length, secondsAgo],
  );
  return rows.map(({ session_id }) => uuidToId("sess", session_id));
}

test("sessions that end are told once they have ended, to who asks from the start and to who goes on", async () => {
  const before = await read("");
  const ended = await endSession();
  assert.ok(!before.sessionIds.includes(ended));
  assert.ok((await read("")).sessionIds.includes(ended));
  assert.ok((await read(before.cursor)).sessionIds.includes(ended));
});

test("a revocation that is committed late is not missed: what is young is told again", async () => {
  const { cursor } = await read("");
  const late = await insertEnded(1, 1, 9);
  assert.deepEqual(
    (await read(cursor)).sessionIds.filter((id) => late.includes(id)),
    late,
  );
});

test("many are told page by page, of every shard, all of them", async () => {
  const ended = (await Promise.all(shardNumbers.map((shard) => insertEnded(shard, 2_500, 60)))).flat();
  const { sessionIds, pages } = await read("");
  assert.ok(pages >= 2, `${pages} pages`);
  const told = new Set(sessionIds);
  assert.equal(ended.filter((id) => !told.has(id)).length, 0);
});

test("what ended so long ago that its tokens are over is not told", async () => {
  const old = await insertEnded(1, 3, 12 * 60);
  const told = new Set((await read("")).sessionIds);
  assert.equal(old.filter((id) => told.has(id)).length, 0);
});

test("a shard that does not answer keeps no other's sessions from being told, and loses none of its own", async () => {
  const [first, second, third] = stack.shards.map((url, index) => openShard(index + 1, url, log)) as [
    Shard,
    Shard,
    Shard,
  ];
  const bucketMap = { version: 1, ranges: evenBucketRanges(3) };
  const away = (how: () => Promise<never>): Shard => ({ ...third, read: how });
  const refusing = away(() => Promise.reject(refusals.shardUnavailable(3)));
  const silent = away(() => new Promise(() => {}));
  try {
    const shards = [first, second, third];
    /** Every page; what is unreadable, as the last one says. */
    const readAll = async (from: readonly Shard[], cursor: string) => {
      const sessionIds: string[] = [];
      for (;;) {
        const page = await listRevokedSessions({ shards: from, bucketMap }, { cursor });
        sessionIds.push(...page.sessionIds);
        if (!page.hasMore) return { ...page, sessionIds };
        cursor = page.cursor;
      }
    };
    const { cursor } = await readAll(shards, "");
    const [here] = await insertEnded(1, 1, 0);
    const [there] = await insertEnded(3, 1, 0);
    for (const from of ["", cursor]) {
      for (const shard of [refusing, silent]) {
        const part = await readAll([first, second, shard], from);
        assert.ok(part.sessionIds.includes(here as string));
        assert.deepEqual(part.unreadable, [
          { first: 2560, last: 3839 },
          { first: 4010, last: 4095 },
        ]);
        const rest = await readAll(shards, part.cursor);
        assert.ok(rest.sessionIds.includes(there as string));
        assert.deepEqual(rest.unreadable, []);
      }
    }
    const none = listRevokedSessions({ shards: [refusing, refusing, refusing], bucketMap }, { cursor });
    await assert.rejects(none, { reason: "SHARD_UNAVAILABLE" });
  } finally {
    await Promise.all([first, second, third].map((shard) => shard.close()));
  }
});

test("a cursor that is none is refused", async () => {
  for (const cursor of ["x", "e30", Buffer.from('[["x","y"],["x","y"],["x","y"]]').toString("base64url")]) {
    await assert.rejects(call(identity, identity.listRevokedSessions, { cursor }), { code: 3, fields: ["cursor"] });
  }
});
