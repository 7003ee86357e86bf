import assert from "node:assert/strict";
import { test } from "node:test";
import type { Elasticsearch } from "#lib/elasticsearch.ts";
import type { Principal } from "#lib/principal.ts";
import { Refusal } from "#lib/refusal.ts";
import { Checkpoints, type Reader } from "#services/reporting/checkpoints.ts";

const FAR = [{ shard: 1, number: 1_000n }];
const PLACES = 8;

function person(role: "USER" | "MERCHANT" | "OPERATOR", userId: string): Reader {
  const principal: Principal = { role, userId, sessionId: undefined, secondFactor: true };
  return { principal, caller: userId };
}
const CONSOLE: Reader = { principal: { role: "SERVICE", name: "console" }, caller: "service:console" };

/** Of one shard, whose projection is where the test says. */
function checkpointsAt(projection: { number: bigint }): Checkpoints {
  const elasticsearch = {
    search: () => Promise.resolve({ hits: { hits: [{ _id: "1" }] } }),
    mget: () => Promise.resolve({ docs: [{ _source: { shard: 1, number: projection.number.toString() } }] }),
  };
  return new Checkpoints(elasticsearch as unknown as Elasticsearch);
}

/** How a query ended: `reached`, or the refusal. */
function outcomeOf(reading: Promise<unknown>): Promise<"reached" | Refusal> {
  return reading.then(
    () => "reached",
    (error: unknown) => {
      if (error instanceof Refusal) return error;
      throw error;
    },
  );
}

test("eight queries of a user wait, the next is refused at once, and others still wait as they like", async () => {
  const projection = { number: 5n };
  const checkpoints = checkpointsAt(projection);
  const ended: string[] = [];
  const begin = (name: string, reader: Reader) =>
    outcomeOf(checkpoints.reached(FAR, reader)).then((outcome) => {
      ended.push(name);
      return outcome;
    });
  const thief = person("USER", "user_thief");
  const thiefs = Array.from({ length: PLACES + 2 }, () => begin("thief", thief));
  const others = [
    begin("user", person("USER", "user_other")),
    begin("merchant", person("MERCHANT", "user_merchant")),
    ...Array.from({ length: PLACES + 1 }, () => begin("operator", person("OPERATOR", "user_operator"))),
    ...Array.from({ length: PLACES + 1 }, () => begin("service", CONSOLE)),
  ];
  const startedAt = performance.now();
  const refused = await Promise.all(thiefs.slice(PLACES));
  assert.ok(performance.now() - startedAt < 1_000, "at once");
  for (const refusal of refused) assert.equal((refusal as Refusal).reason, "PROJECTION_BEHIND");
  assert.deepEqual(ended, ["thief", "thief"]);

  // What is reached already needs no place.
  assert.equal(await outcomeOf(checkpoints.reached([{ shard: 1, number: 5n }], thief)), "reached");

  projection.number = 1_000n;
  checkpoints.notify();
  const outcomes = await Promise.all([...thiefs.slice(0, PLACES), ...others]);
  assert.deepEqual(new Set(outcomes), new Set(["reached"]));

  // Their places are free again.
  projection.number = 5n;
  const again = Array.from({ length: PLACES }, () => outcomeOf(checkpoints.reached(FAR, thief)));
  const turn = new Promise<string>((resolve) => setImmediate(resolve, "all wait"));
  assert.equal(await Promise.race([...again, turn]), "all wait");
  projection.number = 1_000n;
  checkpoints.notify();
  assert.deepEqual(new Set(await Promise.all(again)), new Set(["reached"]));
});

test("users and merchants are not told how far the history of all is; operators and services are", async () => {
  const checkpoints = checkpointsAt({ number: 987_654n });
  const far = [{ shard: 1, number: 2_000_000n }];
  const readers = [person("USER", "user_a"), person("MERCHANT", "user_b"), person("OPERATOR", "user_c"), CONSOLE];
  const refusals = await Promise.all(readers.map((reader) => outcomeOf(checkpoints.reached(far, reader))));
  assert.deepEqual(
    refusals.map((refusal) => (refusal as Refusal).metadata),
    [
      { shard: "1", wanted: "2000000" },
      { shard: "1", wanted: "2000000" },
      { shard: "1", wanted: "2000000", reached: "987654" },
      { shard: "1", wanted: "2000000", reached: "987654" },
    ],
  );
  const told = refusals.map((refusal) => (refusal as Refusal).message.includes("987654"));
  assert.deepEqual(told, [false, false, true, true]);
});
