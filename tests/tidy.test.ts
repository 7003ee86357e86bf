import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { test } from "node:test";
import { createFileRegistry, type DescMethod, fromBinary, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { renderOpenApi } from "#gateway/openapi.ts";
import { CallerRole, type CallerRule, type PeerRule } from "#proto/ledgermesh/options/v1/callers.ts";

/** The house rules that no linter knows. Needs no running stack: `make check` runs it alone. */

const FOLDERS = ["bench", "cli", "gateway", "infra", "lib", "services", "tests"];
const sources = FOLDERS.flatMap((folder) => globSync(`${folder}/**/*.{ts,mjs,sql,lua,json,yaml,conf}`));
const testFiles = sources.filter((file) => file.endsWith(".test.ts"));
const read = (file: string) => readFileSync(file, "utf8");

/** Which folder serves a gRPC service. */
const SERVICE_FOLDERS: Readonly<Record<string, string>> = {
  "ledgermesh.ledger.v1.LedgerService": "services/ledger",
  "ledgermesh.reporting.v1.HistoryService": "services/reporting",
  "ledgermesh.identity.v1.IdentityService": "services/identity",
};

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync("generated/descriptors.binpb")));
const methods: DescMethod[] = [...registry.files].flatMap(({ services }) =>
  services.flatMap((service) => service.methods),
);

test("every RPC has a handler of its name, a test beside it, and is served", () => {
  assert.ok(methods.length > 0);
  for (const { parent, name, localName } of methods) {
    const folder = SERVICE_FOLDERS[parent.typeName];
    assert.ok(folder, `${parent.typeName} has no folder in SERVICE_FOLDERS`);
    const file = `${folder}/${name.replaceAll(/(?!^)[A-Z]/g, "-$&").toLowerCase()}`;
    assert.ok(existsSync(`${file}.ts`), `${file}.ts is missing`);
    assert.match(read(`${file}.ts`), new RegExp(`export (async )?function ${localName}\\b`));
    assert.ok(existsSync(`${file}.test.ts`), `${file}.test.ts is missing`);
    assert.match(read(`${folder}/main.ts`), new RegExp(`\\b${localName}: unary\\(`), `${name} is not served`);
  }
});

/** Roles whose callers own something, and may reach nothing else. */
const OWNERS: readonly CallerRole[] = [CallerRole.USER, CallerRole.MERCHANT];

test("every RPC says who may call it, and what a user must own to", () => {
  const callers = registry.getExtension("ledgermesh.options.v1.callers");
  assert.ok(callers);
  for (const method of methods) {
    assert.ok(hasOption(method, callers), `${method.name} has no caller rule`);
    const { roles, ownerField, internal } = getOption(method, callers) as CallerRule;
    assert.ok(roles.length > 0 && !roles.includes(0), `${method.name} admits nobody or anybody`);
    const admitsOwners = roles.some((role) => OWNERS.includes(role));
    assert.equal(ownerField !== "", admitsOwners, `${method.name}: owner_field goes with USER and MERCHANT`);
    if (ownerField !== "" && ownerField !== "self") {
      const field = method.input.fields.find(({ name }) => name === ownerField);
      assert.equal(field?.scalar, ScalarType.STRING, `${method.name}: ${ownerField} is no text field of its request`);
    }
    if (internal) assert.deepEqual(roles, [CallerRole.SERVICE], `${method.name} is internal: only SERVICE may call it`);
  }
});

test("every service says which processes may call it", () => {
  const peers = registry.getExtension("ledgermesh.options.v1.peers");
  assert.ok(peers);
  for (const service of new Set(methods.map(({ parent }) => parent))) {
    assert.ok(hasOption(service, peers), `${service.name} has no peer rule`);
    const { names } = getOption(service, peers) as PeerRule;
    assert.ok(names.length > 0 && names.every((name) => /^[a-z]+$/.test(name)), `${service.name}: ${names}`);
  }
});

test("the OpenAPI document is that of the contract", () => {
  assert.ok(read("gateway/openapi.json") === renderOpenApi(), "gateway/openapi.json is old. Mend it: make openapi");
});

test("every test file is run, and holds a test that is neither skipped nor alone", () => {
  const runner = read("tests/run.ts");
  for (const file of testFiles) {
    assert.ok(runner.includes(`"${file.split("/")[0]}"`), `${file} is in no folder that tests/run.ts looks into`);
    if (basename(file) === "tidy.test.ts") continue;
    const text = read(file);
    assert.match(text, /\btest\(/, `${file} holds no test`);
    assert.doesNotMatch(
      text,
      /\b(test|it|describe)\.(only|skip|todo)\b|\b(only|skip|todo): true/,
      `${file} leaves tests out`,
    );
    assert.match(text, /assert/, `${file} asserts nothing`);
  }
});

test("every test file of a source lies beside it", () => {
  for (const file of testFiles.filter((name) => !name.startsWith("tests/"))) {
    const source = file.replace(".test.ts", "");
    assert.ok(
      [".ts", ".mjs", ".lua"].some((ending) => existsSync(`${source}${ending}`)),
      `${file} tests no file beside it`,
    );
  }
});

test("every function in SQL has its caller or its user", () => {
  const code = sources
    .filter((file) => /\.(ts|sql)$/.test(file) && !file.endsWith(".test.ts"))
    .map((file) => [file, read(file)] as const);
  for (const [file, text] of code.filter(([name]) => name.endsWith(".sql") && !name.includes("/migrations/"))) {
    for (const [, name] of text.matchAll(/create or replace function ([a-z_.]+)/g)) {
      assert.ok(
        code.some(
          ([other, body]) =>
            other !== file && (body.includes(`${name}(`) || body.includes(`callOf("${name?.replace("ledger.", "")}"`)),
        ),
        `${name} of ${file} is called nowhere`,
      );
    }
  }
});

test("docs/errors.md lists every reason, and no other", () => {
  const where = [
    ...globSync("services/*/refusals.ts"),
    ...globSync("gateway/*.{lua,ts}"),
    ...["access-refusals", "card-data", "grpc-server", "grpc-status", "idempotency-key", "page-token", "refusal"].map(
      (name) => `lib/${name}.ts`,
    ),
  ].filter((file) => !file.endsWith(".test.ts"));
  const notReasons = new Set([...Object.keys(GRPC_STATUSES), ...NOT_REASONS]);
  const used = new Set(
    where.flatMap((file) =>
      [...read(file).matchAll(/"([A-Z]+(?:_[A-Z]+)+|OVERLOADED|INTERNAL)"/g)].map(([, reason]) => reason as string),
    ),
  );
  const reasons = [...used].filter((reason) => !(notReasons.has(reason) || reason.startsWith("LEDGERMESH_")));
  // Built from the account's status.
  reasons.push("ACCOUNT_ACTIVE", "ACCOUNT_FROZEN", "ACCOUNT_PENDING", "ACCOUNT_CLOSED");
  const listed = [...read("docs/errors.md").matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, reason]) => reason as string);
  assert.equal(new Set(listed).size, listed.length, "a reason stands twice");
  assert.deepEqual(new Set(listed), new Set(reasons));
});

const GRPC_STATUSES = Object.fromEntries(
  [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "PERMISSION_DENIED",
    "OUT_OF_RANGE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
  ].map((name) => [name, true]),
);
/** Words of Envoy's configuration. */
const NOT_REASONS = [
  "STRICT_DNS",
  "REJECT_REQUEST",
  "ADD_IF_ABSENT",
  "OVERWRITE_IF_EXISTS_OR_ADD",
  "ROUTE_ENTRY",
  "HTTP_DOWNSTREAM_CONNECTION_IDLE",
  "TRANSPORT_SOCKET_CONNECT",
  "OVERWRITE_IF_EXISTS_OR_ADD",
];

test("nothing speaks of the machine it was written on", () => {
  const files = [
    ...sources,
    ...globSync("{docs,proto,k8s}/**/*.{md,proto,yaml}"),
    "README.md",
    "ARCHITECTURE.md",
    "Makefile",
    "package.json",
    "package-lock.json",
  ];
  for (const file of files.filter((name) => existsSync(name) && basename(name) !== "tidy.test.ts")) {
    assert.doesNotMatch(
      read(file),
      /["'` ]\/(root|home|work)\/|"resolved":|registry\.npmjs|repo\.maven|pypi\.org/,
      file,
    );
  }
});

test("documents name only files that are there", () => {
  for (const file of ["README.md", "ARCHITECTURE.md", ...globSync("docs/**/*.md")]) {
    for (const [, link] of read(file).matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      const target = new URL(link as string, `file:///${file}`).pathname.slice(1);
      assert.ok(existsSync(target), `${file} links to ${link}, which is not there`);
    }
    for (const [, path] of read(file).matchAll(
      /`((?:lib|services|infra|gateway|tests|bench|cli|proto|docs)\/[\w./-]+\.\w+)`/g,
    )) {
      assert.ok(existsSync(path as string), `${file} names ${path}, which is not there`);
    }
  }
});
