import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { readContract } from "#gateway/contract.ts";
import { CallerRole, CallerRule } from "#proto/ledgermesh/options/v1/callers.ts";

const SERVICE = "ledgermesh.ledger.v1.LedgerService";
const descriptorSet = readFileSync(new URL("../generated/descriptors.binpb", import.meta.url));

/** Reads the contract with a change. */
function readChanged(change: (set: FileDescriptorSet) => void): ReturnType<typeof readContract> {
  const set = fromBinary(FileDescriptorSetSchema, descriptorSet);
  change(set);
  return readContract(toBinary(FileDescriptorSetSchema, set), { [SERVICE]: "ledger" });
}

function message(set: FileDescriptorSet, name: string) {
  const found = set.file.flatMap((file) => file.messageType).find((candidate) => candidate.name === name);
  assert.ok(found);
  return found;
}

test("fields carry a bit each, and the bits of their oneof", () => {
  const { bodies } = readContract(descriptorSet, { [SERVICE]: "ledger" });
  const fields = bodies[`${SERVICE}.CreateAccount`] ?? [];
  assert.equal(new Set(fields.map(({ bit }) => bit)).size, fields.length);
  const [floor, unbounded] = ["floor_minor_units", "unbounded"].map((name) =>
    fields.find((field) => field.name === name),
  );
  assert.ok(floor && unbounded);
  assert.equal(floor.json_name, "floorMinorUnits");
  assert.equal(floor.oneof_bits, floor.bit + unbounded.bit);
  assert.equal(unbounded.oneof_bits, floor.oneof_bits);
  assert.ok(fields.filter(({ oneof_bits }) => oneof_bits === 0).length === fields.length - 2);
});

test("what the path gives is no query parameter", () => {
  const { queries } = readContract(descriptorSet, { [SERVICE]: "ledger" });
  const names = queries[`${SERVICE}.ListAccountEntries`]?.map(({ name }) => name);
  assert.deepEqual(names, ["page_size", "page_token"]);
});

/** Gives an RPC another caller rule. */
function withRule(name: string, rule: { roles: CallerRole[]; internal?: boolean }) {
  return (set: FileDescriptorSet) => {
    const method = set.file
      .flatMap((file) => file.service.flatMap((service) => service.method))
      .find((candidate) => candidate.name === name);
    assert.ok(method?.options?.$unknown);
    const data = CallerRule.encode(CallerRule.fromPartial(rule)).finish();
    const field = { no: CALLERS_FIELD_NUMBER, wireType: WireType.LengthDelimited };
    const others = method.options.$unknown.filter(({ no }) => no !== CALLERS_FIELD_NUMBER);
    method.options.$unknown = [...others, { ...field, data: Buffer.concat([Buffer.from([data.length]), data]) }];
  };
}

const CALLERS_FIELD_NUMBER = 50101;
const namesOf = (contract: ReturnType<typeof readContract>) => contract.routes.map(({ rpc }) => rpc.split(".").at(-1));

test("an internal RPC has no route, and the transcoder never hears of it", () => {
  assert.ok(namesOf(readChanged(() => {})).includes("SetRates"));
  const contract = readChanged(withRule("SetRates", { roles: [CallerRole.SERVICE], internal: true }));
  assert.ok(!namesOf(contract).includes("SetRates"));
  assert.equal(contract.bodies[`${SERVICE}.SetRates`], undefined);
  const told = fromBinary(FileDescriptorSetSchema, contract.publicDescriptorSet);
  const methods = told.file.flatMap((file) =>
    file.service.flatMap((service) => service.method.map(({ name }) => name)),
  );
  assert.ok(methods.includes("CreateQuote") && !methods.includes("SetRates"));
});

test("only an RPC for ANONYMOUS may be called without a token; commands of that kind are counted as sign-in", () => {
  const before = readChanged(() => {});
  assert.ok(before.routes.every(({ isOpen }) => !isOpen));
  const classes = new Set(before.routes.map(({ httpMethod, callClass }) => `${httpMethod} ${callClass}`));
  assert.deepEqual(classes, new Set(["POST command", "GET query"]));
  const anybody = { roles: [CallerRole.ANONYMOUS] };
  const after = readChanged((set) => {
    withRule("CreateQuote", anybody)(set);
    withRule("GetQuote", anybody)(set);
  });
  assert.deepEqual(
    after.routes
      .filter(({ isOpen }) => isOpen)
      .map(({ rpc, callClass }) => [rpc.split(".").at(-1), callClass])
      .toSorted(),
    [
      ["CreateQuote", "sign_in"],
      ["GetQuote", "query"],
    ],
  );
});

test("an RPC that does not say who may call it is refused", () => {
  const silent = (set: FileDescriptorSet) => {
    const method = set.file.flatMap((file) => file.service.flatMap((service) => service.method))[0];
    assert.ok(method);
    delete method.options;
  };
  assert.throws(() => readChanged(silent), /has no caller rule/);
});

test("a service that is not there is refused", () => {
  assert.throws(() => readContract(descriptorSet, { "ledgermesh.Nothing": "ledger" }), /no service ledgermesh.Nothing/);
});

test("a kind of field that the checks do not know is refused, not passed over", () => {
  const setType = (type: FieldDescriptorProto_Type, typeName = "") => {
    readChanged((set) => {
      const memo = message(set, "CreateTransferRequest").field.find(({ name }) => name === "memo");
      assert.ok(memo);
      Object.assign(memo, { type, typeName });
    });
  };
  setType(FieldDescriptorProto_Type.INT64);
  for (const type of ["DOUBLE", "BYTES", "UINT64", "FIXED32"] as const) {
    assert.throws(() => setType(FieldDescriptorProto_Type[type]), /memo.*not known to check-body.lua/, type);
  }
  assert.throws(
    () => setType(FieldDescriptorProto_Type.MESSAGE, ".google.protobuf.Any"),
    /google.protobuf.Any in a request: not known/,
  );
  assert.throws(
    () => setType(FieldDescriptorProto_Type.MESSAGE, ".ledgermesh.ledger.v1.CreateTransferRequest"),
    /contains itself/,
  );
});

test("a query parameter that is a list is refused", () => {
  const change = (set: FileDescriptorSet) => {
    const token = message(set, "ListAccountEntriesRequest").field.find(({ name }) => name === "page_token");
    assert.ok(token);
    token.label = FieldDescriptorProto_Label.REPEATED;
  };
  assert.throws(() => readChanged(change), /query parameter page_token is a list/);
});
