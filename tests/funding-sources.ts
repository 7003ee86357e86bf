import { call } from "#lib/grpc-client.ts";
import {
  CreateFundingSourceRequest,
  type FundingSource,
  FundingSource_Kind,
  type SessionTokens,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newKey } from "#tests/stack.ts";
import { bearer } from "#tests/users.ts";

/** A card of a provider; every field as it must be, unless said otherwise. */
export function cardRequest(request: Partial<CreateFundingSourceRequest> = {}): CreateFundingSourceRequest {
  return CreateFundingSourceRequest.fromPartial({
    kind: FundingSource_Kind.CARD,
    provider: "simulator",
    providerToken: `tok_${newKey()}`,
    name: "Visa",
    last4: "1111",
    expiryMonth: 12,
    expiryYear: 2050,
    idempotencyKey: newKey(),
    ...request,
  });
}

/** Links a card. */
export async function linkCard(
  tokens: SessionTokens,
  request: Partial<CreateFundingSourceRequest> = {},
): Promise<FundingSource> {
  return (await call(identity, identity.createFundingSource, cardRequest(request), bearer(tokens))).response;
}
