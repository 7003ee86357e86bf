import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { linkCard } from "#tests/funding-sources.ts";
import { identity, newId } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("one's own is answered, another's like one that is not there", async () => {
  const [ada, eve] = await Promise.all([signUp().then(signIn), signUp().then(signIn)]);
  const card = await linkCard(ada);
  const get = (tokens: typeof ada, fundingSourceId: string) =>
    call(identity, identity.getFundingSource, { fundingSourceId }, bearer(tokens));
  assert.deepEqual((await get(ada, card.fundingSourceId)).response, card);
  for (const id of [card.fundingSourceId, newId("fund", 0), "fund_1", "' or 1=1 --"]) {
    await assert.rejects(get(eve, id), {
      code: 5,
      reason: "FUNDING_SOURCE_NOT_FOUND",
      message: `There is no funding source ${id}.`,
    });
  }
});
