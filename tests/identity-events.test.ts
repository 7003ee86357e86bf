// Runs alone: it kills the relay.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Client } from "pg";
import { shardUrls } from "#infra/local/endpoints.ts";
import { IDENTITY_LOG } from "#lib/events.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import { eventually, kill9, newId, postgres, shardNumbers, stackName } from "#tests/stack.ts";
import { closeNats, lastSequence, loggedEvents, publishedEvents } from "#tests/stream.ts";

after(() => closeNats());

async function numbersOf(shard: number): Promise<{ head: bigint; cursor: bigint; sealed: bigint }> {
  const { rows } = await postgres(shard).query<{ head: string; cursor: string; sealed: string }>(
    `select (select sequence from identity.shard_head) as head, (select number from relay.identity_cursor) as cursor,
            coalesce((select max(last_number) from relay.identity_seals), 0) as sealed`,
  );
  const [row] = rows;
  if (row === undefined) throw new Error("the shard has no identity log");
  return { head: BigInt(row.head), cursor: BigInt(row.cursor), sealed: BigInt(row.sealed) };
}

/** As the identity service does it: under its role, each in a transaction of its own. */
async function addEvents(shard: number, count: number): Promise<void> {
  const db = new Client({ connectionString: shardUrls(stackName, "identity")[shard - 1] });
  await db.connect();
  for (let index = 0; index < count; index += 1) {
    const [sessionId, userId] = [newId("hold", 0), newId("user", 0)];
    await db.query("begin");
    await addIdentityEvent(db, {
      type: "session_revoked",
      bucket: 0,
      aggregateId: sessionId,
      aggregateVersion: 2n,
      payload: { sessionId, userId, reason: "SIGNED_OUT" },
    });
    await db.query("commit");
  }
  await db.end();
}

test("every identity event of every shard reaches JetStream once, in order, as it is in the log, and is sealed", async () => {
  for (const shard of shardNumbers) {
    const caughtUp = async () => {
      const { head, cursor, sealed } = await numbersOf(shard);
      return cursor === head && sealed === head;
    };
    await eventually(caughtUp, "the relay has nothing to do");
    const { head: before } = await numbersOf(shard);
    const sequence = await lastSequence(IDENTITY_LOG);
    await Promise.all([addEvents(shard, 60), addEvents(shard, 60), addEvents(shard, 60)]);
    const { head: last } = await numbersOf(shard);
    assert.ok(last >= before + 180n);
    const published = (await publishedEvents(shard, sequence, last, IDENTITY_LOG)).filter(
      ({ number }) => BigInt(number) > before && BigInt(number) <= last,
    );
    const logged = await loggedEvents(shard, before, last, IDENTITY_LOG);
    assert.equal(published.length, Number(last - before));
    for (const [index, expected] of logged.entries()) {
      const { id, source, type, subject, time, number, data } = published[index] as (typeof published)[number];
      assert.deepEqual({ id, source, type, subject, time, number, data }, expected);
    }
    await eventually(caughtUp, "all of it is sealed");
  }
});

test("a relay that dies in the midst leaves no identity event out and none out of order", async () => {
  const [shard] = shardNumbers as [number];
  const { head: before } = await numbersOf(shard);
  const sequence = await lastSequence(IDENTITY_LOG);
  const adding = addEvents(shard, 400);
  await eventually(async () => (await numbersOf(shard)).cursor > before, "the relay is at work");
  await Promise.all([kill9("relay"), adding]);
  const { head: last } = await numbersOf(shard);
  await eventually(async () => (await numbersOf(shard)).cursor === last, "the next relay has caught up", 60_000);
  let expected = before + 1n;
  for (const { number } of await publishedEvents(shard, sequence, last, IDENTITY_LOG)) {
    const found = BigInt(number);
    assert.ok(found <= expected, `event ${expected} was skipped: ${found} came`);
    if (found === expected) expected += 1n;
  }
  assert.equal(expected, last + 1n);
});
