import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { cardRequest, linkCard } from "#tests/funding-sources.ts";
import { identity, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("what is deleted is gone with its token, may be linked again, and is nobody else's to delete", async () => {
  const [ada, eve] = await Promise.all([signUp().then(signIn), signUp().then(signIn)]);
  const request = cardRequest();
  const card = await linkCard(ada, request);
  const remove = (tokens: typeof ada) =>
    call(identity, identity.deleteFundingSource, { fundingSourceId: card.fundingSourceId }, bearer(tokens));
  await assert.rejects(remove(eve), { code: 5, reason: "FUNDING_SOURCE_NOT_FOUND" });
  assert.deepEqual((await remove(ada)).response, card);
  await assert.rejects(remove(ada), { code: 5, reason: "FUNDING_SOURCE_NOT_FOUND" });
  const counts = await Promise.all(
    shardNumbers.map((shard) =>
      postgres(shard).query("select from identity.funding_sources where provider_token = $1", [request.providerToken]),
    ),
  );
  assert.equal(
    counts.reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0),
    0,
  );
  // The key of the first call answers for what it made.
  await assert.rejects(linkCard(ada, request), { code: 5, reason: "FUNDING_SOURCE_NOT_FOUND" });
  const again = await linkCard(ada, cardRequest({ providerToken: request.providerToken }));
  assert.notEqual(again.fundingSourceId, card.fundingSourceId);
});
