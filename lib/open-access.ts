import { type Access, createAccess } from "#lib/access.ts";
import type { AccessSettings } from "#lib/access-settings.ts";
import { accessTokens } from "#lib/access-token.ts";
import type { Logger } from "#lib/log.ts";
import { openRevocations, type RevokedSessions } from "#lib/revocations.ts";
import { openSigningKeys, type PublishedKey } from "#lib/signing-keys.ts";

/** What identity tells every service. The promises reject when it does not answer in time. */
export interface IdentitySource {
  signingKeys(): Promise<readonly PublishedKey[]>;
  /** Sessions that were ended after the cursor; empty: of the last minutes. */
  revokedSessions(cursor: string): Promise<RevokedSessions>;
  close(): void;
}

export interface OpenAccess extends Access {
  /** Ends the asking. */
  stop(): Promise<void>;
}

/** The check of callers for a service's server; asks identity from now on until it is stopped. */
export async function openAccess(settings: AccessSettings, identity: IdentitySource, log: Logger): Promise<OpenAccess> {
  const keys = await openSigningKeys(identity.signingKeys, settings.developmentKey, log);
  const revocations = openRevocations(identity.revokedSessions, log);
  return {
    ...createAccess(accessTokens(settings.issuer, keys, Date.now), revocations),
    async stop() {
      identity.close();
      await Promise.all([keys.stop(), revocations.stop()]);
    },
  };
}
