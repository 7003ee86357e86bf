import assert from "node:assert/strict";
import { test } from "node:test";
import { createAccess, ownedThing } from "#lib/access.ts";
import { accessRefusals } from "#lib/access-refusals.ts";
import { callerRule, type MethodRule } from "#lib/caller-rules.ts";
import type { Principal } from "#lib/principal.ts";
import { Refusal } from "#lib/refusal.ts";

const userId = "user_01jd800000e03r00000000188w";
const person = (role: "USER" | "MERCHANT" | "OPERATOR", more: object = {}) =>
  ({ role, userId, sessionId: undefined, secondFactor: false, ...more }) as Principal;

/** Tokens that say in words whose they are. */
const PRINCIPALS: Readonly<Record<string, Principal>> = {
  "the.user.x": person("USER"),
  "the.user.otp": person("USER", { secondFactor: true }),
  "the.user.revoked": person("USER", { sessionId: "sess_revoked" }),
  "the.merchant.x": person("MERCHANT"),
  "the.operator.pwd": person("OPERATOR"),
  "the.operator.otp": person("OPERATOR", { secondFactor: true }),
  "the.service.x": { role: "SERVICE", name: "feed" },
};

/** `known`: whether a token is answered at once, as one that was verified before. */
const accessOf = (known: boolean) =>
  createAccess(
    {
      principalOf(token) {
        const principal = PRINCIPALS[token];
        if (known && principal !== undefined) return principal;
        if (known) throw accessRefusals.tokenInvalid("it is not known");
        return principal === undefined
          ? Promise.reject(accessRefusals.tokenInvalid("it is not known"))
          : Promise.resolve(principal);
      },
    },
    {
      requireNotRevoked(sessionId) {
        if (sessionId === "sess_revoked") throw accessRefusals.sessionRevoked();
      },
    },
  );

const rule = (changes: Partial<MethodRule>): MethodRule => ({
  name: "DoThing",
  peers: new Set(["gateway", "console", "ledger"]),
  roles: new Set(["SERVICE"]),
  ownerField: "",
  ownerProperty: "",
  internal: false,
  secondFactor: false,
  beforeSecondFactor: false,
  ...changes,
});

/** The principal, or the reason of the refusal; the same whether the token is known or not. */
async function admit(method: MethodRule, peer: string, token?: string, scheme = "Bearer"): Promise<Principal | string> {
  const headers = token === undefined ? {} : { authorization: `${scheme} ${token}` };
  const answers = [];
  for (const known of [true, false]) {
    try {
      answers.push(await accessOf(known).admit(method, peer, headers));
    } catch (error) {
      assert.ok(error instanceof Refusal, String(error));
      answers.push(error.reason);
    }
  }
  assert.deepEqual(answers[0], answers[1]);
  return answers[0] as Principal | string;
}

test("without a token a process speaks for itself, and the gateway for nobody", async () => {
  const forServices = rule({});
  assert.deepEqual(await admit(forServices, "ledger"), { role: "SERVICE", name: "ledger" });
  assert.equal(await admit(forServices, "gateway"), "TOKEN_REQUIRED");
  const forAnybody = rule({ roles: new Set(["ANONYMOUS"]) });
  assert.deepEqual(await admit(forAnybody, "gateway"), { role: "ANONYMOUS" });
  assert.deepEqual(await admit(forAnybody, "console"), { role: "SERVICE", name: "console" });
});

test("only the processes that the contract names may call, whatever token they bring", async () => {
  const method = rule({ roles: new Set(["SERVICE", "USER", "ANONYMOUS"]) });
  for (const token of [undefined, "the.service.x", "the.user.x"]) {
    assert.equal(await admit(method, "relay", token), "PEER_NOT_ALLOWED");
    assert.equal(await admit(method, "", token), "PEER_NOT_ALLOWED");
  }
  const internal = rule({ internal: true });
  assert.equal(await admit(internal, "gateway", "the.service.x"), "PEER_NOT_ALLOWED");
  assert.deepEqual(await admit(internal, "ledger"), { role: "SERVICE", name: "ledger" });
});

test("a token counts instead of the process that brings it", async () => {
  const forServices = rule({});
  for (const peer of ["gateway", "ledger"]) {
    assert.equal(await admit(forServices, peer, "the.user.x"), "ROLE_NOT_ALLOWED");
    assert.deepEqual(await admit(forServices, peer, "the.service.x"), { role: "SERVICE", name: "feed" });
    assert.equal(await admit(forServices, peer, "the.user.revoked"), "SESSION_REVOKED");
    assert.equal(await admit(forServices, peer, "no.such.token"), "TOKEN_INVALID");
  }
});

test("the header must be one bearer token", async () => {
  const method = rule({});
  assert.deepEqual(await admit(method, "gateway", "the.service.x", "bearer"), { role: "SERVICE", name: "feed" });
  for (const scheme of ["Basic", "", "Bearer Bearer", "Bearer the.user.x,"]) {
    assert.equal(await admit(method, "gateway", "the.service.x", scheme), "TOKEN_INVALID", scheme);
  }
  assert.equal(await admit(method, "gateway", ""), "TOKEN_INVALID");
});

test("operators act only with a second factor, and may enrol one without", async () => {
  const method = rule({ roles: new Set(["OPERATOR", "USER"]) });
  assert.equal(await admit(method, "gateway", "the.operator.pwd"), "SECOND_FACTOR_REQUIRED");
  assert.deepEqual(await admit(method, "gateway", "the.operator.otp"), PRINCIPALS["the.operator.otp"]);
  assert.deepEqual(await admit(method, "gateway", "the.user.x"), PRINCIPALS["the.user.x"]);
  const enrolling = rule({ roles: new Set(["OPERATOR"]), beforeSecondFactor: true });
  assert.deepEqual(await admit(enrolling, "gateway", "the.operator.pwd"), PRINCIPALS["the.operator.pwd"]);
});

test("what asks for a second factor gets it of everybody who is a person", async () => {
  const method = rule({
    roles: new Set(["OPERATOR", "USER", "SERVICE"]),
    secondFactor: true,
    beforeSecondFactor: true,
  });
  assert.equal(await admit(method, "gateway", "the.user.x"), "SECOND_FACTOR_REQUIRED");
  assert.equal(await admit(method, "gateway", "the.operator.pwd"), "SECOND_FACTOR_REQUIRED");
  assert.deepEqual(await admit(method, "gateway", "the.user.otp"), PRINCIPALS["the.user.otp"]);
  assert.deepEqual(await admit(method, "ledger"), { role: "SERVICE", name: "ledger" });
});

test("what is open to anybody is not closed by a token that is no good", async () => {
  const method = rule({ roles: new Set(["ANONYMOUS"]) });
  for (const token of ["no.such.token", "the.user.revoked"]) {
    assert.deepEqual(await admit(method, "gateway", token), { role: "ANONYMOUS" });
  }
  assert.deepEqual(await admit(method, "gateway", "the.user.x"), PRINCIPALS["the.user.x"]);
});

test("the rules are the contract's", async () => {
  const method = callerRule("/ledgermesh.ledger.v1.LedgerService/CreateTransfer");
  assert.deepEqual(method.roles, new Set(["SERVICE", "OPERATOR"]));
  assert.equal(await admit(method, "gateway", "the.user.otp"), "ROLE_NOT_ALLOWED");
  assert.equal(await admit(method, "projector"), "PEER_NOT_ALLOWED");
  assert.throws(() => callerRule("/ledgermesh.ledger.v1.LedgerService/Vanish"), /no caller rule/);
});

test("users and merchants name what is theirs; others need not", () => {
  const method = rule({ ownerField: "account_id", ownerProperty: "accountId" });
  const owned = (token: string, accountId: string) => ownedThing(method, PRINCIPALS[token] as Principal, { accountId });
  assert.deepEqual(owned("the.user.x", "acct_1"), { id: "acct_1", userId });
  assert.deepEqual(owned("the.merchant.x", "acct_1"), { id: "acct_1", userId });
  assert.throws(
    () => owned("the.user.x", ""),
    (error) => error instanceof Refusal && error.violations[0]?.field === "account_id",
  );
  assert.equal(owned("the.operator.otp", ""), undefined);
  assert.equal(owned("the.service.x", "acct_1"), undefined);
});
