import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { shortages } from "#infra/local/machine.mjs";
import { root } from "#infra/local/paths.mjs";
import { missingTools, wrongMachine } from "#infra/local/prerequisites.mjs";

const folder = mkdtempSync(join(tmpdir(), "ledgermesh prerequisites "));
after(() => rmSync(folder, { recursive: true }));
let machines = 0;

/** A PATH with just these tools: scripts that print what the real ones would. */
function machineWith(tools: Readonly<Record<string, string>>): string {
  machines += 1;
  const bin = join(folder, String(machines));
  mkdirSync(bin);
  symlinkSync("/bin/sh", join(bin, "sh"));
  for (const [name, script] of Object.entries(tools)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  return bin;
}

const npm = "echo 10.9.0";
const python = 'case "$2" in *version*) echo 3 11;; esac';
const maven = 'echo "Apache Maven 3.8.7"; echo "Java version: 17.0.15, vendor: Debian"';
const missingOn = (tools: Readonly<Record<string, string>>) =>
  missingTools({ PATH: machineWith(tools) }, ["npm", "python", "maven"]);

test("a machine with everything lacks nothing", () => {
  assert.deepEqual(missingOn({ npm, python3: python, mvn: maven }), []);
});

test("an empty machine gets one line for each missing tool, each with a remedy", () => {
  assert.deepEqual(missingOn({}), [
    "npm is missing. Mend it with: sudo apt-get install npm",
    "Python 3.10 or newer is missing. Mend it with: sudo apt-get install python3 python3-venv",
    "Maven is missing. Mend it with: sudo apt-get install maven",
  ]);
});

test("a Python that is too old is named with its version", () => {
  assert.deepEqual(missingOn({ npm, python3: "echo 3 9", mvn: maven }), [
    "Python 3.10 or newer is missing (found 3.9). Mend it: put a newer python3 first on PATH",
  ]);
});

test("Debian's Python without ensurepip is noticed before a virtual environment is made", () => {
  const withoutVenv = 'case "$2" in *version*) echo 3 11;; *) exit 1;; esac';
  assert.deepEqual(missingOn({ npm, python3: withoutVenv, mvn: maven }), [
    "Python's venv is missing. Mend it with: sudo apt-get install python3-venv",
  ]);
});

test("Maven on an old Java, and Maven without any, say which Java is needed", () => {
  const remedy = "Mend it with: sudo apt-get install openjdk-17-jdk-headless, or point JAVA_HOME at one";
  const old = 'echo "Java version: 11.0.2, vendor: Debian"';
  const ancient = 'echo "Java version: 1.8.0_392, vendor: Debian"';
  assert.deepEqual(missingOn({ npm, python3: python, mvn: old }), [
    `Java 17 or newer is missing (Maven runs on Java 11). ${remedy}`,
  ]);
  assert.deepEqual(missingOn({ npm, python3: python, mvn: ancient }), [
    `Java 17 or newer is missing (Maven runs on Java 8). ${remedy}`,
  ]);
  assert.deepEqual(missingOn({ npm, python3: python, mvn: "exit 1" }), [
    `Maven finds no Java (mvn -v fails). ${remedy}`,
  ]);
});

test("another operating system or processor is refused", () => {
  assert.equal(wrongMachine("linux", "x64"), undefined);
  assert.match(wrongMachine("darwin", "arm64") ?? "", /darwin on arm64; .* Linux on x64/);
});

test("too little memory and too little disk are said with both figures", () => {
  const gib = 1024 ** 3;
  const needed = { memoryBytes: 2 * gib, diskBytes: 3 * gib };
  assert.deepEqual(shortages(needed, needed, "/checkout"), []);
  const [memory, disk] = shortages({ memoryBytes: 1.5 * gib, diskBytes: 0.5 * gib }, needed, "/checkout");
  assert.match(memory ?? "", /^Too little memory: 1\.5 GiB available, 2\.0 GiB needed\. Mend it: /);
  assert.match(disk ?? "", /^Too little disk space: 0\.5 GiB free at \/checkout, 3\.0 GiB needed\. Mend it: /);
});

/** A checkout with nothing but what the set-up reads. */
function checkout(): string {
  const copy = join(folder, "check out");
  for (const path of ["infra/local", "infra/elasticsearch/launcher", "proto"]) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  for (const name of ["package.json", "package-lock.json", ".npmrc", "buf.yaml", "buf.gen.yaml"]) {
    cpSync(join(root, name), join(copy, name));
  }
  return copy;
}

test("a set-up on a machine without Python fails with one line, fetches nothing and leaves no lock", () => {
  const copy = checkout();
  const run = spawnSync(process.execPath, [join(copy, "infra", "local", "setup.mjs")], {
    encoding: "utf8",
    env: { PATH: machineWith({ npm, mvn: maven }) },
  });
  assert.equal(
    run.stderr,
    "Python 3.10 or newer is missing. Mend it with: sudo apt-get install python3 python3-venv\n",
  );
  assert.equal(run.stdout, "");
  assert.equal(run.status, 1);
  for (const made of ["node_modules", ".local/tools/python", ".local/tools/setup.lock"]) {
    assert.equal(existsSync(join(copy, made)), false, made);
  }
});
