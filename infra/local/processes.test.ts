import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { endProcess } from "#infra/local/end-process.ts";
import { identify, isAlive, type ProcessIdentity, processTree, signalProcess } from "#infra/local/processes.mjs";

const children: ChildProcess[] = [];
after(() => children.forEach((child) => void child.kill("SIGKILL")));

function shell(script: string): { child: ChildProcess; identity: ProcessIdentity } {
  const child = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const identity = identify(child.pid ?? 0);
  assert.ok(identity);
  return { child, identity };
}

test("a process is known by pid, start time and boot: a stranger with its pid is not signalled", async () => {
  const { child, identity } = shell("exec sleep 60");
  const strangers = [
    { ...identity, startTime: String(Number(identity.startTime) + 1) },
    { ...identity, boot: "another boot" },
  ];
  for (const stranger of strangers) {
    assert.equal(isAlive(stranger), false);
    signalProcess(stranger, "SIGKILL");
    assert.equal(await endProcess(stranger, "SIGKILL", 100), true);
  }
  await sleep(50);
  assert.equal(isAlive(identity), true);
  signalProcess(identity, "SIGTERM");
  await once(child, "exit");
  assert.equal(isAlive(identity), false);
  signalProcess(identity, "SIGTERM");
});

test("a process with blanks and brackets in its name is identified", () => {
  const child = spawn(process.execPath, ["-e", "process.title = 'a) b (c'; setTimeout(() => {}, 60_000)"]);
  children.push(child);
  assert.match(identify(child.pid ?? 0)?.startTime ?? "", /^\d+$/);
});

test("a process that does not obey is killed after its time, and its descendants with it", async () => {
  const { child, identity } = shell("trap '' TERM; (trap '' TERM; sleep 60 & wait) & echo up; wait; wait");
  assert.ok(child.stdout);
  await once(child.stdout, "data");
  const tree = processTree(identity.pid).map((pid) => identify(pid));
  assert.ok(tree.length >= 2);
  assert.equal(await endProcess(identity, "SIGTERM", 200), false);
  for (const member of tree) assert.equal(member !== undefined && isAlive(member), false);
});
