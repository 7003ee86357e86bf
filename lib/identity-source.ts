import { call } from "#lib/grpc-client.ts";
import type { IdentitySource } from "#lib/open-access.ts";
import { openServiceClient } from "#lib/service-client.ts";
import type { Tls } from "#lib/tls.ts";
import { IdentityServiceClient } from "#proto/ledgermesh/identity/v1/identity.ts";

const TIMEOUT_MS = 5_000;

/** What the identity service at `host:port` tells. */
export function identitySource(address: string, tls: Tls): IdentitySource {
  const identity = openServiceClient(IdentityServiceClient, address, tls);
  return {
    async signingKeys() {
      return (await call(identity, identity.getJwks, {}, {}, TIMEOUT_MS)).response.keys;
    },
    async revokedSessions(cursor) {
      return (await call(identity, identity.listRevokedSessions, { cursor }, {}, TIMEOUT_MS)).response;
    },
    close: () => identity.close(),
  };
}
