// Runs alone: it looks for what it sent in everything that the stack has written.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  create,
  createFileRegistry,
  type DescMessage,
  type DescMethod,
  fromBinary,
  getOption,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type Client, Metadata } from "@grpc/grpc-js";
import { developmentToken } from "#infra/local/development-key.ts";
import { dataFolder, logFolder } from "#infra/local/folders.ts";
import { passesLuhn } from "#lib/card-data.ts";
import { CallError } from "#lib/grpc-client.ts";
import { cursorOf, elasticsearch, headOf } from "#tests/projection.ts";
import { rest } from "#tests/rest.ts";
import {
  eventually,
  history,
  identity,
  ledger,
  newKey,
  newOwner,
  openAccount,
  postgres,
  restUrl,
  shardNumbers,
  stackName,
  transfer,
} from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

/**
 * The canary: numbers that nobody else has, sent in every text of every request of the contract, and then looked for wherever the
 * system writes. A word that is let through is looked for the same way, so that a search that finds nothing can be trusted.
 */
after(() => elasticsearch.close());

const digits = (count: number) => Array.from({ length: count }, () => Math.floor(Math.random() * 10)).join("");
const withCheckDigit = (start: string) => [..."0123456789"].map((last) => start + last).find(passesLuhn) as string;
const CARD = withCheckDigit(`4${digits(14)}`);
const IBAN = ibanOf(`${digits(8)}${digits(10)}`);
/** As it would be found: with and without what separates it. */
const CANARIES = [CARD, CARD.replaceAll(/(.{4})(?=.)/g, "$1 "), CARD.replaceAll(/(.{4})(?=.)/g, "$1-"), IBAN];
const CONTROL = `control-${newKey()}`;

function ibanOf(account: string): string {
  const remainder = [...`${account}131400`].reduce((sum, digit) => (sum * 10 + Number(digit)) % 97, 0);
  return `DE${String(98 - remainder).padStart(2, "0")}${account}`;
}

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync("generated/descriptors.binpb")));
const callers = registry.getExtension("ledgermesh.options.v1.callers");
const methods: DescMethod[] = [...registry.files].flatMap(({ services }) =>
  services.flatMap((service) => service.methods),
);
const CLIENTS: Readonly<Record<string, Client>> = {
  "ledgermesh.ledger.v1.LedgerService": ledger,
  "ledgermesh.reporting.v1.HistoryService": history,
  "ledgermesh.identity.v1.IdentityService": identity,
};
const [USER, SERVICE, ANONYMOUS] = [1, 4, 5];
const MAX_DEPTH = 5;

/** A request with a value in one text of it, for each of its texts. */
function planted(message: DescMessage, value: string, depth = 0): { path: string; init: Record<string, unknown> }[] {
  if (depth > MAX_DEPTH) return [];
  return message.fields.flatMap((field) => {
    const put = (content: unknown) =>
      field.oneof === undefined
        ? { [field.localName]: content }
        : { [field.oneof.localName]: { case: field.localName, value: content } };
    const isText = field.scalar === 9;
    if (field.fieldKind === "scalar" && isText) return [{ path: field.name, init: put(value) }];
    if (field.fieldKind === "list" && field.listKind === "scalar" && isText) {
      return [{ path: `${field.name}[0]`, init: put([value]) }];
    }
    if (field.fieldKind === "map") {
      return [
        { path: `${field.name}.note`, init: put({ note: value }) },
        { path: field.name, init: put({ [value]: "note" }) },
      ];
    }
    const child = field.message;
    if (child === undefined || child.typeName.startsWith("google.protobuf.")) return [];
    const isList = field.fieldKind === "list";
    return planted(child, value, depth + 1).map(({ path, init }) => ({
      path: `${field.name}${isList ? "[0]" : ""}.${path}`,
      init: put(isList ? [init] : init),
    }));
  });
}

function send(
  method: DescMethod,
  init: Record<string, unknown>,
  headers: Record<string, string>,
): Promise<CallError | undefined> {
  const bytes = Buffer.from(toBinary(method.input, create(method.input, init)));
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const asItIs = (message: Buffer) => message;
  const client = CLIENTS[method.parent.typeName];
  assert.ok(client, `${method.parent.typeName} has no client here`);
  const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
  client.makeUnaryRequest(`/${method.parent.typeName}/${method.name}`, asItIs, asItIs, bytes, metadata, (error) =>
    resolve(error === null ? undefined : new CallError(error, false)),
  );
  return promise;
}

test("a card number, an IBAN and their like are refused in every text of every request, by the field's name alone", async () => {
  const user = bearer(await signIn(await signUp()));
  const operator = { authorization: `Bearer ${(await developmentToken(stackName, "operator", newOwner())).token}` };
  assert.ok(callers);
  let sent = 0;
  for (const method of methods) {
    const { roles } = getOption(method, callers) as { roles: number[] };
    const headers =
      roles.includes(SERVICE as number) || roles.includes(ANONYMOUS as number)
        ? {}
        : roles.includes(USER as number)
          ? user
          : operator;
    for (const [index, canary] of CANARIES.entries()) {
      for (const { path, init } of planted(method.input, index % 2 === 0 ? canary : `note: ${canary}.`)) {
        const error = await send(method, init, headers);
        const where = `${method.name} ${path}`;
        assert.equal(error?.reason, "CARD_DATA_REFUSED", `${where}: ${error?.message}`);
        assert.deepEqual([error.code, error.fields], [3, [path]], where);
        assert.ok(!/\d{3}/.test(error.message), where);
        sent += 1;
      }
    }
    const byHeader = await send(method, {}, { ...headers, "idempotency-key": CARD });
    assert.deepEqual([byHeader?.reason, byHeader?.fields], ["CARD_DATA_REFUSED", ["idempotency_key"]], method.name);
  }
  assert.ok(sent > 4 * 60, `${sent} requests`);
});

test("through the gateway it is the same, in a body, a path and a query", async () => {
  const body = JSON.stringify({ postings: [], memo: `card ${CARD}` });
  for (const answer of [
    await rest(`${restUrl}/v1/ledger/transfers`, { body, headers: { "idempotency-key": newKey() } }),
    await rest(`${restUrl}/v1/ledger/accounts/${CARD}`),
    await rest(`${restUrl}/v1/history/entries?account_id=${CARD}`),
    await rest(`${restUrl}/v1/ledger/transfers`, { body: "{}", headers: { "idempotency-key": CARD } }),
  ]) {
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.text, /CARD_DATA_REFUSED/);
    assert.ok(!answer.text.includes(CARD));
  }
  // What never reaches a service is written down by nobody either: the last test looks.
  const name = "idempotency-key";
  const statuses = await Promise.all([
    rest(`${restUrl}/v1/ledger/transfers`, { body, headers: { [name]: newKey() }, token: null }),
    rest(`${restUrl}/v1/ledger/transfers`, {
      body: JSON.stringify({ card_number: CARD }),
      headers: { [name]: newKey() },
    }),
    rest(`${restUrl}/v1/history/entries?card=${CARD}`),
    rest(`${restUrl}/v1/nothing/${CARD}`),
    rest(`${restUrl}/v1/ledger/accounts/acct_1`, { token: CARD }),
  ]);
  assert.deepEqual(
    statuses.map(({ status }) => status),
    [401, 400, 400, 404, 401],
  );
});

/** Every table of every schema of ours in which a row, as text, holds one of the words. */
async function tablesWith(words: readonly string[]): Promise<string[]> {
  const patterns = words.flatMap((word) => [`%${word}%`, `%${Buffer.from(word).toString("hex")}%`]);
  const found = await Promise.all(
    shardNumbers.map(async (shard) => {
      const { rows } = await postgres(shard).query<{ name: string }>(
        `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')`,
      );
      assert.ok(rows.length > 30);
      const names: string[] = [];
      for (const { name } of rows) {
        const { rowCount } = await postgres(shard).query(
          `select from only ${name} t where t::text like any ($1::text[]) limit 1`,
          [patterns],
        );
        if (rowCount !== 0) names.push(name);
      }
      return names;
    }),
  );
  return [...new Set(found.flat())];
}

/** Files of a folder that hold one of the words. */
function filesWith(folder: string, words: readonly string[]): string[] {
  const files = globSync(join(folder, "**"), { withFileTypes: true }).filter((entry) => entry.isFile());
  assert.ok(files.length > 0, `${folder} is empty`);
  return files
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((file) => {
      const bytes = readFileSync(file);
      return words.some((word) => bytes.includes(word));
    });
}

async function indicesWith(words: readonly string[]): Promise<string[]> {
  await elasticsearch.indices.refresh({ index: "*" });
  const queries = words.map((word) => ({
    query_string: { query: `"${word}"`, fields: ["*"], lenient: true },
  }));
  const { hits } = await elasticsearch.search({ index: "*", size: 100, query: { bool: { should: queries } } });
  return [...new Set(hits.hits.map(({ _index }) => _index))];
}

test("nothing of it is in any table, stream, index or log, where a word that was let through is found", async () => {
  const account = await openAccount({ reference: CONTROL });
  await transfer("system:cash", account.accountId, 1n, { memo: CONTROL });
  for (const shard of shardNumbers) {
    await eventually(async () => (await cursorOf(shard)) >= (await headOf(shard)), "all of it is published");
  }
  const tables = await tablesWith([CONTROL]);
  for (const table of ["ledger.accounts", "ledger.events", "ledger.transfers"]) {
    assert.ok(
      tables.some((name) => name.startsWith(table)),
      `the word is in ${table}: ${tables.join()}`,
    );
  }
  const streams = dataFolder(stackName, "nats");
  await eventually(() => filesWith(streams, [CONTROL]).length > 0, "the word is in JetStream");
  await eventually(async () => (await indicesWith([CONTROL])).length > 0, "the word is in Elasticsearch");

  assert.deepEqual(await tablesWith(CANARIES), []);
  assert.deepEqual(filesWith(streams, CANARIES), []);
  assert.deepEqual(await indicesWith(CANARIES), []);
  assert.deepEqual(filesWith(logFolder(stackName), CANARIES), []);
});
