import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { type Client, Pool } from "pg";
import { auditReport, auditVerdict } from "#cli/audit-report.ts";
import { auditVerify } from "#cli/audit-verify.ts";
import { seededRandom } from "#cli/random.ts";
import { PAGE_EVENTS, readLogEnd } from "#cli/read-log.ts";
import { auditorShards } from "#cli/shard-connections.ts";
import { type Anchor, MAX_PROBLEMS, type Verification, verifyEvents } from "#cli/verify-events.ts";
import { shardUrls } from "#infra/local/endpoints.ts";
import { HASH_BYTES, hashEvent } from "#lib/event-chain.ts";
import { readEvents, type StoredEvent } from "#lib/events.ts";
import { createLogger } from "#lib/log.ts";
import { openSealer } from "#services/relay/seal-events.ts";
import { type ScratchShard, scratchShard, writeEvents } from "#tests/scratch-shard.ts";
import { openAccount, openFunded, stackName, transfer } from "#tests/stack.ts";

/**
 * The verifier against databases of its own that were tampered with in every way we could think of: by a superuser, who
 * can switch off what protects the tables, and by whoever has the password of a service's role.
 */
const SHARD = 1;
const EVENTS = 65;
/** Seals are over ten events each; the last five events have none yet. */
const SEALED = 60;
const RUN = 10;
const quiet = createLogger("test");
quiet.level = "silent";

interface Tampered {
  readonly scratch: ScratchShard;
  /** A superuser for whom no trigger and no foreign key holds. */
  readonly db: Client;
  /** What verify finds: reason and numbers of each problem. */
  readonly found: (...anchors: Anchor[]) => Promise<[string, number, number][]>;
  readonly verify: (...anchors: Anchor[]) => Promise<Verification>;
  /** Seals what is not sealed yet, as a relay that has just started. */
  readonly seal: () => Promise<void>;
}

async function sealedShard(): Promise<Tampered> {
  const scratch = await scratchShard(SHARD);
  const db = await scratch.connect();
  await writeEvents(db, EVENTS);
  const events = await readEvents(db, 0n, SEALED);
  const sealer = await openSealer(db, SHARD, quiet);
  for (let start = 0; start < SEALED; start += RUN) await sealer.seal(events.slice(start, start + RUN));
  await db.query("update relay.cursor set number = $1", [SEALED]);
  await db.query("set session_replication_role = replica");
  const verify = async (...anchors: Anchor[]) => {
    const reader = openPool(scratch, "auditor");
    try {
      const options = { anchors, signal: new AbortController().signal, onProgress: () => {} };
      return await verifyEvents(reader, await readLogEnd(reader), options);
    } finally {
      await reader.end();
    }
  };
  return {
    scratch,
    db,
    verify,
    found: async (...anchors) =>
      (await verify(...anchors)).problems.map(({ reason, firstNumber, lastNumber }) => [
        reason,
        Number(firstNumber),
        Number(lastNumber),
      ]),
    seal: async () => {
      await (await openSealer(db, SHARD, quiet)).sealNext();
    },
  };
}

function openPool(scratch: ScratchShard, role: "auditor" | "ledger" | "relay"): Pool {
  const [url] = shardUrls(stackName, role);
  const pool = new Pool({ connectionString: scratch.urlOf(url as string), max: 2 });
  // Dropping the database may end a connection that is on its way out.
  pool.on("error", () => {});
  return pool;
}

const anchor = ({ end, chainHash }: Verification): Anchor => ({ shard: SHARD, number: end.sealedTo, chainHash });

/** SQL that exchanges some columns of two events. */
const exchange = (columns: string, one: number, other: number) =>
  `update ledger.events e set (${columns}) = (select ${columns} from ledger.events o
      where o.number = case e.number when ${one} then ${other} else ${one} end)
    where number in (${one}, ${other})`;

test("an untouched log verifies, and its unsealed tail is counted", async () => {
  const { verify, seal } = await sealedShard();
  const { problems, end, events, seals, unsealedForMs } = await verify();
  assert.deepEqual(problems, []);
  assert.deepEqual([end.sealedTo, end.head, events, seals], [60n, 65n, 65n, 6n]);
  assert.ok(unsealedForMs > 0);
  await seal();
  assert.deepEqual([(await verify()).end.sealedTo, (await verify()).unsealedForMs], [65n, 0]);
});

test("an event altered in any of its columns is named", async () => {
  const { db, found } = await sealedShard();
  const changes = [
    "bucket = bucket + 1",
    "aggregate_id = aggregate_id || ' '",
    "aggregate_version = 2",
    "type = 'transfer_reversed'",
    "schema_version = 2",
    "payload = replace(payload, 'payment', 'Payment')",
    "occurred_at = occurred_at + interval '1 millisecond'",
  ];
  for (const [index, change] of changes.entries())
    await db.query(`update ledger.events set ${change} where number = $1`, [index * 9 + 1]);
  assert.deepEqual(
    await found(),
    changes.map((_, index) => ["EVENT_ALTERED", index * 9 + 1, index * 9 + 1]),
  );
});

test("missing events are named, alone and as a range across seals", async () => {
  const { db, found } = await sealedShard();
  await db.query("delete from ledger.events where number = 1 or number = 23 or number between 38 and 52");
  assert.deepEqual(await found(), [
    ["EVENT_MISSING", 1, 1],
    ["EVENT_MISSING", 23, 23],
    ["EVENT_MISSING", 38, 52],
  ]);
});

for (const [what, columns] of [
  ["payloads", "payload"],
  ["everything but number and time", "bucket, aggregate_id, aggregate_version, type, schema_version, payload"],
  ["everything but the number", "bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at"],
] as const) {
  test(`two swapped events are named as such: ${what}`, async () => {
    const { db, found } = await sealedShard();
    await db.query("update ledger.events set payload = 'x' where number = 30");
    await db.query(exchange(columns, 12, 47));
    assert.deepEqual(await found(), [
      ["EVENTS_SWAPPED", 12, 47],
      ["EVENT_ALTERED", 30, 30],
    ]);
  });
}

test("events that were moved around in a ring are named with their sources", async () => {
  const { db, found } = await sealedShard();
  await db.query(exchange("payload", 5, 25));
  await db.query(exchange("payload", 25, 45));
  assert.deepEqual(await found(), [
    ["EVENT_MOVED", 5, 25],
    ["EVENT_MOVED", 25, 45],
    ["EVENT_MOVED", 45, 5],
  ]);
});

test("a truncated tail is named, sealed or not", async () => {
  const unsealed = await sealedShard();
  await unsealed.db.query("delete from ledger.events where number > 62");
  assert.deepEqual(await unsealed.found(), [["EVENT_MISSING", 63, 65]]);
  const { db, found } = await sealedShard();
  await db.query("delete from ledger.events where number > 57");
  await db.query("update ledger.shard_head set sequence = 57");
  assert.deepEqual(await found(), [["EVENT_MISSING", 58, 60]]);
});

test("an altered seal is named, and what the events prove is not blamed on them", async () => {
  const { db, found, verify } = await sealedShard();
  const spoil = (column: string, first: number, at: number) =>
    db.query(
      `update relay.seals set ${column} = set_byte(${column}, $2, get_byte(${column}, $2) # 1) where first_number = $1`,
      [first, at],
    );
  await spoil("event_hashes", 1, 4 * HASH_BYTES);
  await spoil("chain_hash", 21, 0);
  await spoil("event_hashes", 51, 0);
  assert.deepEqual(await found(), [
    ["SEAL_ALTERED", 1, 10],
    ["SEAL_ALTERED", 21, 30],
    ["SEAL_ALTERED", 51, 60],
  ]);
  assert.match((await verify()).problems[0]?.message ?? "", /hash of event 5; the chain proves that the events are as/);
  assert.match((await verify()).problems[1]?.message ?? "", /chain hash; the next seal proves that the events are as/);
});

test("an altered chain hash that nothing follows is named as a break", async () => {
  const { db, found } = await sealedShard();
  await db.query("update relay.seals set chain_hash = sha256('x') where first_number = 51");
  assert.deepEqual(await found(), [["CHAIN_BROKEN", 51, 60]]);
});

test("missing seals are named: the first, some in the midst, the last", async () => {
  const { db, found, verify } = await sealedShard();
  await db.query("delete from relay.seals where first_number in (1, 21, 31, 51)");
  assert.deepEqual(await found(), [
    ["SEAL_MISSING", 1, 10],
    ["SEAL_MISSING", 21, 40],
    ["SEAL_MISSING", 51, 60],
  ]);
  const { problems } = await verify();
  assert.match(problems[1]?.message ?? "", /the next seal proves that these events are as they were/);
  // An event behind a removed seal can not be named any more, but it does not stay hidden.
  await db.query("update ledger.events set payload = 'x' where number = 25");
  assert.match(
    (await verify()).problems[1]?.message ?? "",
    /the next seal does not follow from these events: one of them/,
  );
});

test("what is published before it is sealed, because there were no seals yet, is no missing seal", async () => {
  const { db, found } = await sealedShard();
  await db.query("update relay.cursor set number = 65, number_before_seals = 63");
  assert.deepEqual(await found(), []);
  await db.query("update relay.cursor set number_before_seals = 60");
  assert.deepEqual(await found(), [["SEAL_MISSING", 61, 65]]);
});

test("an event altered together with its hash in the seal is found by the chain", async () => {
  const { db, found } = await sealedShard();
  for (const number of [25n, 55n]) {
    await db.query("update ledger.events set payload = 'x' where number = $1", [number]);
    const [event] = await readEvents(db, number - 1n, 1);
    await db.query(
      "update relay.seals set event_hashes = overlay(event_hashes placing $2 from $3) where $1 between first_number and last_number",
      [number, hashEvent(SHARD, event as StoredEvent), 4 * HASH_BYTES + 1],
    );
  }
  assert.deepEqual(await found(), [
    ["SEAL_AND_EVENT_ALTERED", 21, 30],
    ["CHAIN_BROKEN", 51, 60],
  ]);
});

test("only a hash that was written down elsewhere shows a log that was rewritten as a whole", async () => {
  const { db, found, verify, seal } = await sealedShard();
  const writtenDown = anchor(await verify());
  assert.deepEqual(await found(writtenDown), []);
  await db.query("update ledger.events set payload = 'x' where number = 25");
  await db.query("delete from relay.seals where first_number > 20");
  await seal();
  assert.deepEqual(await found(), []);
  assert.deepEqual(await found(writtenDown), [["ANCHOR_DIFFERS", 60, 60]]);
  // Up to there nothing was rewritten; that the seals are cut otherwise now does not matter.
  const now = anchor(await verify());
  assert.deepEqual([now.number, await found(now)], [65n, []]);
});

test("a written-down hash holds within a seal, in the unsealed tail and however the seals were cut", async () => {
  const { db, found, verify, seal } = await sealedShard();
  const [at60] = [anchor(await verify())];
  await seal();
  const at65 = anchor(await verify());
  // As after a crash that took the newest seals.
  await db.query("delete from relay.seals where first_number > 40");
  await db.query("update relay.cursor set number = 40");
  assert.deepEqual(await found(at60, at65), []);
  await seal();
  assert.equal((await verify()).seals, 5n);
  assert.deepEqual(await found(at60, at65), []);
  const wrong = { ...at60, chainHash: at65.chainHash };
  assert.deepEqual(await found(at65, wrong), [["ANCHOR_DIFFERS", 60, 60]]);
  assert.deepEqual(await found({ ...at60, number: 59n }, { ...at60, number: 0n }), [
    ["ANCHOR_DIFFERS", 0, 0],
    ["ANCHOR_DIFFERS", 59, 59],
  ]);
});

test("a log cut short with its seals and its head is shown by a hash that was written down", async () => {
  const { db, found, verify } = await sealedShard();
  const writtenDown = anchor(await verify());
  await db.query("delete from ledger.events where number > 50");
  await db.query("delete from relay.seals where first_number > 50");
  await db.query("update ledger.shard_head set sequence = 50");
  await db.query("update relay.cursor set number = 50");
  assert.deepEqual(await found(), []);
  assert.deepEqual(await found(writtenDown), [["ANCHOR_BEYOND_LOG", 60, 60]]);
});

test("what the password of the ledger's role allows is found, and seals are out of its reach", async () => {
  const { scratch, found } = await sealedShard();
  const insider = openPool(scratch, "ledger");
  try {
    for (const forbidden of [
      "update ledger.events set payload = 'x'",
      "delete from ledger.events",
      "select from relay.seals",
      "delete from relay.seals",
      "insert into relay.seals (first_number, last_number, format, event_hashes, chain_hash) values (61, 61, 1, '', '')",
      "update relay.cursor set number = 1",
    ])
      await assert.rejects(insider.query(forbidden), /permission denied/, forbidden);
    const insert = (number: number, at: string) =>
      insider.query("insert into ledger.events values ($1, 0, 'xfer_1', 1, 'transfer_posted', 1, '{}', $2)", [
        number,
        at,
      ]);
    await insert(23, "2025-01-01");
    await insert(24, "2027-01-01");
    await insert(66, "2027-01-01");
    await insert(-7, "2027-01-01");
    assert.deepEqual(await found(), [
      ["EVENT_BELOW_ONE", -7, -7],
      ["EVENT_REPEATED", 23, 23],
      ["EVENT_REPEATED", 24, 24],
      ["EVENT_BEYOND_HEAD", 66, 66],
    ]);
    await insider.query("update ledger.shard_head set sequence = 1000000000000000");
    assert.deepEqual((await found()).slice(-1), [["EVENT_MISSING", 67, 1_000_000_000_000_000]]);
    await insider.query("update ledger.shard_head set sequence = 62");
    assert.deepEqual((await found()).slice(-4), [
      ["EVENT_BEYOND_HEAD", 63, 63],
      ["EVENT_BEYOND_HEAD", 64, 64],
      ["EVENT_BEYOND_HEAD", 65, 65],
      ["EVENT_BEYOND_HEAD", 66, 66],
    ]);
  } finally {
    await insider.end();
  }
});

test("a false seal that the relay's role can add is found", async () => {
  const { scratch, found } = await sealedShard();
  const insider = openPool(scratch, "relay");
  try {
    await insider.query(
      "insert into relay.seals (first_number, last_number, format, event_hashes, chain_hash) values (61, 62, 1, sha256('a') || sha256('b'), sha256('c'))",
    );
    assert.deepEqual(await found(), [
      ["CHAIN_BROKEN", 61, 62],
      ["EVENT_ALTERED", 61, 61],
      ["EVENT_ALTERED", 62, 62],
    ]);
  } finally {
    await insider.end();
  }
});

test("seals over one another, and one without a valid form, are named", async () => {
  const { db, found } = await sealedShard();
  await db.query(
    `insert into relay.seals (first_number, last_number, format, event_hashes, chain_hash)
     values (15, 16, 1, sha256('a') || sha256('b'), sha256('c'))`,
  );
  await db.query("alter table relay.seals drop constraint whole_hashes");
  await db.query("update relay.seals set event_hashes = '' where first_number = 41");
  assert.deepEqual(await found(), [
    ["SEAL_OVERLAPS", 15, 16],
    ["SEAL_ALTERED", 41, 50],
    ["SEAL_MISSING", 41, 50],
  ]);
});

test("the list of problems is bounded, and all are counted", async () => {
  const { db, verify, seal } = await sealedShard();
  await writeEvents(db, 400);
  await seal();
  await db.query("update ledger.events set payload = 'x' where number > 30");
  const { problems, problemCount } = await verify();
  assert.deepEqual([problems.length, problemCount], [MAX_PROBLEMS, 435]);
  assert.deepEqual(problems[0], {
    reason: "EVENT_ALTERED",
    firstNumber: 31n,
    lastNumber: 31n,
    message: "event 31 (transfer_posted of xfer_31) is not as it was sealed",
  });
});

test("every reason is explained to auditors, and no other", () => {
  const [, union] = /export type ProblemReason =([^;]+);/.exec(readFileSync("cli/verify-events.ts", "utf8")) ?? [];
  const reasons = [...(union ?? "").matchAll(/"([A-Z_]+)"/g)].map(([, reason]) => reason);
  const listed = [...readFileSync("docs/audit.md", "utf8").matchAll(/^\| `([A-Z_]+)` \|/gm)].map(
    ([, reason]) => reason,
  );
  assert.ok(reasons.length > 10);
  assert.deepEqual(listed, reasons);
});

test("an event added between two pages of the reader is found too", async () => {
  const { db, found, seal } = await sealedShard();
  await writeEvents(db, 2_000);
  for (let count = 0; count < 3; count += 1) await seal();
  await db.query("insert into ledger.events values ($1, 0, 'x', 1, 'x', 1, '{}', '2027-01-01')", [PAGE_EVENTS]);
  assert.deepEqual(await found(), [["EVENT_REPEATED", PAGE_EVENTS, PAGE_EVENTS]]);
});

interface Run {
  readonly exitStatus: number;
  readonly stdout: string;
  readonly stderr: string;
}

function audit(shards: readonly string[], ...args: string[]): Promise<Run> {
  const env = { LEDGERMESH_AUDIT_SHARDS: shards.join(",") };
  return new Promise((resolve) => {
    execFile(process.execPath, ["cli/main.ts", "audit", "verify", ...args], { env }, (error, stdout, stderr) =>
      resolve({ exitStatus: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr }),
    );
  });
}

const live = shardUrls(stackName, "auditor");
let paying = true;
after(() => {
  paying = false;
});

test("the running system verifies while money moves, and so does what was printed before", async () => {
  const [payer, payee] = [await openFunded(1_000_000n), await openAccount()];
  const payments = (async () => {
    while (paying) await transfer(payer.accountId, payee.accountId, 1n);
  })();
  const first = await audit(live, "--json");
  assert.equal(first.exitStatus, 0, first.stdout + first.stderr);
  const report = JSON.parse(first.stdout) as { verdict: string; shards: { anchor: string; sealed_to: string }[] };
  assert.deepEqual([report.verdict, report.shards.length], ["OK", live.length]);
  const anchors = report.shards.flatMap(({ anchor }) => ["--expect", anchor]);
  const second = await audit(live, ...anchors);
  paying = false;
  await payments;
  assert.equal(second.exitStatus, 0, second.stdout + second.stderr);
  assert.match(second.stdout, /^OK: every sealed event is as it was sealed, and none is missing\./m);
  for (const [index] of live.entries())
    assert.match(second.stdout, new RegExp(`^ {2}--expect ${index + 1}:[0-9]+:[0-9a-f]{64}$`, "m"));
});

test("the command names the problem and ends with 1; what cannot be checked ends with 2", async () => {
  const { scratch, db, verify } = await sealedShard();
  const url = scratch.urlOf(live[0] as string);
  assert.equal((await audit([url])).exitStatus, 0);
  const { chainHash } = await verify();
  const wrong = await audit([url], "--expect", `1:59:${chainHash.toString("hex")}`);
  assert.equal(wrong.exitStatus, 1);
  assert.match(wrong.stdout, /^shard 1: ANCHOR_DIFFERS: the chain at event 59 was [0-9a-f]{64} when/m);
  await db.query("delete from ledger.events where number = 23");
  const { exitStatus, stdout } = await audit([url]);
  assert.equal(exitStatus, 1);
  assert.match(stdout, /^shard 1: EVENT_MISSING: event 23 is missing, sealed before$/m);
  assert.match(stdout, /^NOT OK: /m);
  const json = JSON.parse((await audit([url], "--json")).stdout);
  assert.deepEqual(json.shards[0].problems, [
    { reason: "EVENT_MISSING", first_number: "23", last_number: "23", message: "event 23 is missing, sealed before" },
  ]);

  const malformed = await audit([url], "--expect", "1:2:3");
  assert.equal(malformed.exitStatus, 2);
  assert.match(malformed.stderr, /It must be SHARD:NUMBER:HASH/);
  const gone = await audit([url.replace(/@[^/]+/, "@127.0.0.1:1")]);
  assert.equal(gone.exitStatus, 2);
  assert.match(gone.stdout, /^shard 1 cannot be checked: 127\.0\.0\.1:1\/\w+: connect ECONNREFUSED/m);
  assert.doesNotMatch(gone.stdout, /:s[0-9a-f]{48}@/, "no password is shown");
});

test("shards in the wrong order, or not all of them, are not taken for checked", async () => {
  const check = (shards: readonly string[], anchors: readonly Anchor[] = []) =>
    auditVerify({ shards, anchors, signal: new AbortController().signal, screen: { write: () => true } });
  const swapped = await check([live[1] as string, live[0] as string, ...live.slice(2)]);
  assert.equal(auditVerdict(swapped), "IMPOSSIBLE");
  assert.match(auditReport(swapped), /the database given as shard 1 is shard 2: mend the order/);
  const one = await check(live.slice(0, 1));
  assert.equal(auditVerdict(one), "IMPOSSIBLE");
  assert.match(auditReport(one), /the system has \d shards, and 1 are given: name them all/);
  const stray = { shard: 9, number: 1n, chainHash: Buffer.alloc(HASH_BYTES) };
  await assert.rejects(check(live, [stray]), /There is no shard 9 to expect a hash of/);
  assert.throws(() => auditorShards("nowhere"), /There is no stack nowhere/);
});

const TAMPERINGS = 40;

test("each single tampering is named, and nothing else with it", async (t) => {
  const seed = Number(process.hrtime.bigint() % 1_000_000_000n);
  t.diagnostic(`seed ${seed}`);
  const chance = seededRandom(seed);
  const random = (count: number) => chance.between(0, count - 1);
  const { db, found } = await sealedShard();
  await db.query("create table events_before as table ledger.events");
  await db.query(
    "create table seals_before as select first_number, last_number, format, event_hashes, chain_hash, sealed_at from relay.seals",
  );
  for (let count = 0; count < TAMPERINGS; count += 1) {
    const number = 1 + random(SEALED);
    const first = number - ((number - 1) % RUN);
    const seal = [first, first + RUN - 1];
    const flip = (column: string, at: number) =>
      `update relay.seals set ${column} = set_byte(${column}, ${at}, get_byte(${column}, ${at}) # ${1 + random(255)}) where first_number = ${first}`;
    const other = 1 + ((number + random(SEALED - 1)) % SEALED);
    const lastSeal = seal[1] === SEALED;
    const tamperings: [string, unknown[]][] = [
      [`update ledger.events set payload = payload || ' ' where number = ${number}`, ["EVENT_ALTERED", number, number]],
      [`delete from ledger.events where number = ${number}`, ["EVENT_MISSING", number, number]],
      [exchange("payload", number, other), ["EVENTS_SWAPPED", Math.min(number, other), Math.max(number, other)]],
      [flip("event_hashes", random(RUN * HASH_BYTES)), ["SEAL_ALTERED", ...seal]],
      [flip("chain_hash", random(HASH_BYTES)), [lastSeal ? "CHAIN_BROKEN" : "SEAL_ALTERED", ...seal]],
      [`delete from relay.seals where first_number = ${first}`, ["SEAL_MISSING", ...seal]],
    ];
    const [sql, expected] = tamperings[random(tamperings.length)] as [string, unknown[]];
    assert.equal((await db.query(sql)).rowCount, sql.startsWith("update ledger.events e set") ? 2 : 1);
    assert.deepEqual(await found(), [expected], sql);
    await db.query(
      "delete from ledger.events; insert into ledger.events table events_before; delete from relay.seals;",
    );
    await db.query(
      "insert into relay.seals (first_number, last_number, format, event_hashes, chain_hash, sealed_at) table seals_before",
    );
    assert.deepEqual(await found(), []);
  }
});
