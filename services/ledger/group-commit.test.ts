import assert from "node:assert/strict";
import { test } from "node:test";
import { groupCommit, type LaneName } from "#services/ledger/group-commit.ts";

interface Written {
  readonly batches: string[][];
  /** Lets the batch that has been under way for longest end. */
  release(): void;
}

function recorder(
  options: {
    writers?: number;
    minOverlap?: number;
    maxBatch?: number;
    maxWeight?: number;
    maxQueued?: number;
    hold?: boolean;
    fail?: boolean;
  } = {},
) {
  const batches: string[][] = [];
  const held: (() => void)[] = [];
  const commit = groupCommit<string, string>({
    writers: Array.from({ length: options.writers ?? 1 }, () => async (batch: readonly string[]) => {
      batches.push([...batch]);
      if (options.hold === true) await new Promise<void>((resolve) => held.push(resolve));
      if (options.fail === true) throw new Error("the database is gone");
      return batch.map((command) => `done ${command}`);
    }),
    minOverlap: options.minOverlap ?? 0,
    keysOf: (command) => {
      const [key = "", ...more] = (command.split("#")[0] as string).split("+");
      return more.length === 0 ? key : [key, ...more];
    },
    weightOf: (command) => Number(command.split("=")[1] ?? 1),
    breaksLane: (outcome) => outcome.startsWith("done broken"),
    maxBatch: options.maxBatch ?? 1000,
    maxWeight: options.maxWeight ?? 1000,
    maxQueued: options.maxQueued ?? 1000,
    tooLate: () => new Error("too late"),
    unknown: (command) => `unknown ${command}`,
    full: (waiting) => new Error(`full: ${waiting}`),
  });
  const written: Written = { batches, release: () => held.shift()?.() };
  return { commit, written };
}

const one: LaneName = { name: "one", ordered: false };
const batch: LaneName = { name: "batch", ordered: true };
const caller: LaneName = { name: "caller", ordered: false };
const later = () => performance.now() + 60_000;
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

test("commands that arrive while a batch is written form the next batch", async () => {
  const { commit, written } = recorder({ hold: true });
  const first = commit.submit("a", one, later());
  await nextTurn();
  await nextTurn();
  const others = ["b", "c", "d"].map((command) => commit.submit(command, one, later()));
  written.release();
  assert.equal(await first, "done a");
  await nextTurn();
  written.release();
  assert.deepEqual(await Promise.all(others), ["done b", "done c", "done d"]);
  assert.deepEqual(written.batches, [["a"], ["b", "c", "d"]]);
});

test("a lane with thousands of commands leaves room for a single call", async () => {
  const { commit, written } = recorder({ maxBatch: 100, maxQueued: 2_000 });
  const big = Array.from({ length: 1000 }, (_, index) => commit.submit(`big${index}`, batch, later()));
  const single = commit.submit("single", caller, later());
  await Promise.all([...big, single]);
  assert.ok(written.batches[0]?.includes("single"));
  assert.equal(written.batches.length, 11);
});

test("the order within a lane is kept", async () => {
  const { commit, written } = recorder({ maxBatch: 7 });
  const names = Array.from({ length: 100 }, (_, index) => `c${index}`);
  await Promise.all(names.map((name) => commit.submit(name, one, later())));
  assert.deepEqual(written.batches.flat(), names);
});

test("a key appears once in a batch, and its twin comes after it", async () => {
  const { commit, written } = recorder();
  const answers = await Promise.all(["k#1", "k#2", "other", "k#3"].map((c) => commit.submit(c, one, later())));
  assert.deepEqual(answers, ["done k#1", "done k#2", "done other", "done k#3"]);
  for (const batch of written.batches) assert.ok(batch.filter((command) => command.startsWith("k#")).length <= 1);
  assert.deepEqual(
    written.batches.flat().filter((command) => command.startsWith("k#")),
    ["k#1", "k#2", "k#3"],
  );
});

test("a command with several keys meets none of them twice in a batch, and takes no key without the others", async () => {
  const { commit, written } = recorder();
  const commands = ["a", "b+c", "c+d", "d", "b#2", "e"];
  await Promise.all(
    commands.map((command, index) => commit.submit(command, { ...one, name: `lane ${index}` }, later())),
  );
  // Which of two lanes comes first is their turn.
  assert.deepEqual(
    written.batches.map((commands) => new Set(commands)),
    [new Set(["a", "b+c", "d", "e"]), new Set(["b#2", "c+d"])],
  );
});

test("beyond the bound a command is refused, and what was accepted is still answered", async () => {
  const { commit } = recorder({ maxQueued: 2 });
  const accepted = [commit.submit("a", one, later()), commit.submit("b", one, later())];
  await assert.rejects(commit.submit("c", one, later()), /full: 2/);
  assert.deepEqual(await Promise.all(accepted), ["done a", "done b"]);
  assert.equal(commit.waiting(), 0);
});

test("a command whose time is over while it waits is told that nothing has happened; one being written, that it is unknown", async () => {
  const { commit, written } = recorder({ hold: true, maxBatch: 1 });
  const writing = commit.submit("writing", one, performance.now() + 150);
  const waiting = commit.submit("waiting", one, performance.now() + 150);
  assert.equal(await writing, "unknown writing");
  await assert.rejects(waiting, /too late/);
  written.release();
  await commit.drained();
  assert.deepEqual(written.batches, [["writing"]]);
});

test("a command whose time was over before its batch is put together is never written", async () => {
  const { commit, written } = recorder();
  const late = commit.submit("late", one, performance.now() - 1);
  const inTime = commit.submit("in time", one, later());
  await assert.rejects(late, /too late/);
  assert.equal(await inTime, "done in time");
  assert.deepEqual(written.batches, [["in time"]]);
  await assert.rejects(commit.submit("late again", one, performance.now() - 1), /too late/);
  await commit.drained();
  assert.equal(commit.waiting(), 0);
});

test("a batch that fails answers each of its commands, and the next batch is written", async () => {
  const { commit } = recorder({ fail: true });
  await assert.rejects(commit.submit("a", one, later()), /the database is gone/);
  await assert.rejects(commit.submit("b", one, later()), /the database is gone/);
});

test("a twin of a single call does not hold up those behind it", async () => {
  const { commit, written } = recorder();
  await Promise.all(["k#1", "k#2", "k#3", "a", "b"].map((command) => commit.submit(command, one, later())));
  assert.deepEqual(written.batches[0], ["k#1", "a", "b"]);
  assert.deepEqual(written.batches.slice(1), [["k#2"], ["k#3"]]);
});

test("a batch stops at its weight", async () => {
  const { commit, written } = recorder({ maxWeight: 100 });
  await Promise.all(["a=60", "b=60", "c=1"].map((command) => commit.submit(command, one, later())));
  assert.deepEqual(written.batches, [["a=60", "b=60"], ["c=1"]]);
});

test("when one command of an ordered lane is not made, those behind it are not made either", async () => {
  const { commit, written } = recorder({ maxBatch: 2 });
  const commands = ["a", "broken", "c", "d"];
  const [ordered, single] = await Promise.all([
    Promise.all(commands.map((command) => commit.submit(`${command}#1`, batch, later()))),
    Promise.all(commands.map((command) => commit.submit(`${command}2`, one, later()))),
  ]);
  assert.deepEqual(ordered, ["done a#1", "done broken#1", "done broken#1", "done broken#1"]);
  assert.deepEqual(single, ["done a2", "done broken2", "done c2", "done d2"]);
  assert.ok(!written.batches.flat().includes("c#1"));
  assert.equal(commit.waiting(), 0);
});

test("while a batch is under way another one begins when enough commands wait for it", async () => {
  const { commit, written } = recorder({ writers: 2, minOverlap: 3, hold: true });
  const first = commit.submit("a", one, later());
  await nextTurn();
  const others = ["b", "c"].map((command) => commit.submit(command, one, later()));
  await nextTurn();
  assert.deepEqual(written.batches, [["a"]]);
  others.push(commit.submit("d", one, later()));
  await nextTurn();
  assert.deepEqual(written.batches, [["a"], ["b", "c", "d"]]);
  // No third writer.
  others.push(...["e", "f", "g"].map((command) => commit.submit(command, one, later())));
  await nextTurn();
  assert.equal(written.batches.length, 2);
  written.release();
  assert.equal(await first, "done a");
  assert.deepEqual(written.batches[2], ["e", "f", "g"]);
  written.release();
  written.release();
  await Promise.all(others);
  await commit.drained();
});

test("a key is in one batch under way at a time, and an ordered lane as well", async () => {
  const { commit, written } = recorder({ writers: 2, hold: true, maxBatch: 2 });
  const commands = ["k#1", "x", "y", "z"].map((command) => commit.submit(command, batch, later()));
  const others = ["k#2", "single"].map((command) => commit.submit(command, caller, later()));
  await nextTurn();
  // The lanes take turns; what waits for the first batch is left where it is.
  assert.deepEqual(written.batches, [["k#1", "x"], ["single"]]);
  written.release();
  await commands[1];
  await nextTurn();
  assert.deepEqual(written.batches.slice(2), [["y", "z"]]);
  written.release();
  await others[1];
  await nextTurn();
  assert.deepEqual(written.batches.slice(3), [["k#2"]]);
  written.release();
  written.release();
  assert.deepEqual(await Promise.all([...commands, ...others]), [
    "done k#1",
    "done x",
    "done y",
    "done z",
    "done k#2",
    "done single",
  ]);
});
