import assert from "node:assert/strict";
import { test } from "node:test";
import { idGenerator } from "#lib/ids.ts";
import { createLogger } from "#lib/log.ts";
import { Refusal } from "#lib/refusal.ts";
import { openRevocations, type RevokedSessions } from "#lib/revocations.ts";

const log = createLogger("test");
log.level = "silent";

const refused = (reason: string) => (error: unknown) => error instanceof Refusal && error.reason === reason;

/** Lets everything that is not a timer run. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Revocations whose clock and timers are the test's, and an identity that the test answers for. */
async function world(t: import("node:test").TestContext, first: Partial<RevokedSessions> | Error = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const state = { nowMs: 0, answer: first as Partial<RevokedSessions> | Error, cursors: [] as string[] };
  const revocations = openRevocations(
    (cursor) => {
      state.cursors.push(cursor);
      const { answer } = state;
      if (answer instanceof Error) return Promise.reject(answer);
      return Promise.resolve({ sessionIds: [], cursor: "c1", hasMore: false, unreadable: [], ...answer });
    },
    log,
    () => state.nowMs,
  );
  t.after(() => revocations.stop());
  await settle();
  /** So many seconds go by, in steps in which polls can end. */
  async function pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      state.nowMs += 1000;
      t.mock.timers.tick(1000);
      await settle();
    }
  }
  return { state, revocations, pass };
}

test("a session that was ended is refused within a poll, others are not", async (t) => {
  const { state, revocations, pass } = await world(t);
  revocations.requireNotRevoked("sess_a");
  state.answer = { sessionIds: ["sess_a"], cursor: "c2" };
  await pass(15);
  assert.throws(() => revocations.requireNotRevoked("sess_a"), refused("SESSION_REVOKED"));
  revocations.requireNotRevoked("sess_b");
  await pass(15);
  assert.deepEqual(state.cursors, ["", "c1", "c2"], "each poll goes on where the one before ended");
});

test("nothing is trusted before the first answer", async (t) => {
  const { state, revocations, pass } = await world(t, new Error("away"));
  assert.throws(() => revocations.requireNotRevoked("sess_a"), refused("REVOCATIONS_UNKNOWN"));
  state.answer = {};
  await pass(3);
  revocations.requireNotRevoked("sess_a");
});

test("after a minute without an answer no session is trusted, and ended ones stay refused as such", async (t) => {
  const { state, revocations, pass } = await world(t, { sessionIds: ["sess_a"] });
  state.answer = new Error("away");
  await pass(60);
  revocations.requireNotRevoked("sess_b");
  await pass(1);
  assert.throws(() => revocations.requireNotRevoked("sess_b"), refused("REVOCATIONS_UNKNOWN"));
  assert.throws(() => revocations.requireNotRevoked("sess_a"), refused("SESSION_REVOKED"));
  state.answer = {};
  await pass(2);
  revocations.requireNotRevoked("sess_b");
});

test("what identity cannot read is not trusted after a minute, and nothing else suffers", async (t) => {
  const newId = idGenerator(() => 1);
  const [here, there] = [newId("sess", 7), newId("sess", 2_000)];
  const { state, revocations, pass } = await world(t);
  state.answer = { unreadable: [{ first: 1_500, last: 2_500 }] };
  await pass(60);
  revocations.requireNotRevoked(there);
  await pass(15);
  assert.throws(() => revocations.requireNotRevoked(there), refused("REVOCATIONS_UNKNOWN"));
  revocations.requireNotRevoked(here);
  // Another cut of the map meanwhile does not make it younger.
  state.answer = {
    unreadable: [
      { first: 1_900, last: 2_100 },
      { first: 3_000, last: 3_100 },
    ],
  };
  await pass(15);
  assert.throws(() => revocations.requireNotRevoked(there), refused("REVOCATIONS_UNKNOWN"));
  revocations.requireNotRevoked(newId("sess", 3_050));
  state.answer = { sessionIds: [there] };
  await pass(15);
  assert.throws(() => revocations.requireNotRevoked(there), refused("SESSION_REVOKED"));
  revocations.requireNotRevoked(newId("sess", 2_000));
});

test("what was never read is not trusted at all", async (t) => {
  const newId = idGenerator(() => 1);
  const { revocations } = await world(t, { unreadable: [{ first: 0, last: 9 }] });
  assert.throws(() => revocations.requireNotRevoked(newId("sess", 7)), refused("REVOCATIONS_UNKNOWN"));
  revocations.requireNotRevoked(newId("sess", 10));
});

test("an answer that has more pages is not the whole truth", async (t) => {
  const { state, revocations, pass } = await world(t, new Error("away"));
  let page = 0;
  Object.defineProperty(state, "answer", {
    get: () => {
      page += 1;
      if (page === 3) return new Error("away in between");
      return { sessionIds: [`sess_${page}`], cursor: `c${page}`, hasMore: page < 5 };
    },
  });
  await pass(2);
  assert.throws(() => revocations.requireNotRevoked("sess_x"), refused("REVOCATIONS_UNKNOWN"));
  assert.throws(() => revocations.requireNotRevoked("sess_2"), refused("SESSION_REVOKED"));
  await pass(2);
  assert.deepEqual(state.cursors, ["", "", "c1", "c2", "c2", "c4"]);
  revocations.requireNotRevoked("sess_x");
  assert.throws(() => revocations.requireNotRevoked("sess_5"), refused("SESSION_REVOKED"));
});

test("an ended session is forgotten only when no token of it can be good any more", async (t) => {
  const { state, revocations, pass } = await world(t, { sessionIds: ["sess_a"] });
  state.answer = {};
  await pass(10 * 60 + 30);
  assert.throws(() => revocations.requireNotRevoked("sess_a"), refused("SESSION_REVOKED"));
  await pass(60);
  revocations.requireNotRevoked("sess_a");
});
