// Runs alone: it signs up and in more often than others may.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type FuzzRun, fuzz, fuzzSeed } from "#tests/fuzz.ts";
import { newEmail, signIn, signUp } from "#tests/users.ts";

/** What people ask for of themselves, as one of them. */

let operations: Omit<FuzzRun, "phase">;

before(async () => {
  // No request has this one: the user is neither closed nor locked out.
  const password = "a password that no request has";
  const user = await signUp({ password });
  const sessions = [await signIn(user, password), await signIn(user, password)];
  operations = {
    token: sessions[0]?.accessToken ?? "",
    selected: ["--include-tag", "Identity"],
    pool: {
      session_id: [sessions[1]?.sessionId ?? ""],
      email: [newEmail(), newEmail(), "x"],
      new_email: [newEmail(), "x"],
      password: ["a sound password", "password"],
      current_password: ["wrong"],
      new_password: ["another sound password", "12345678"],
      country: ["CZ", "US", "XX"],
      phone: ["+420601123456"],
      provider_token: ["tok_1", "4111111111111111"],
      last4: ["4242"],
    },
  };
});

test("each rule of the document kept and broken: every answer is one that the document has", async () => {
  assert.equal(await fuzz({ ...operations, phase: "coverage" }, fuzzSeed()), "");
});

test("well-formed requests by chance: every answer is one that the document has", async (context) => {
  const seed = fuzzSeed();
  context.diagnostic(`seed ${seed}: make fuzz SEED=${seed} repeats it`);
  assert.equal(await fuzz({ ...operations, phase: "fuzzing" }, seed), "");
});
