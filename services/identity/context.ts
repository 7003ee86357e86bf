import type { NewId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import type { PageTokens } from "#lib/page-token.ts";
import type { BucketMap } from "#lib/shards.ts";
import type { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AddressLimit } from "#services/identity/address-limit.ts";
import type { CountryOf } from "#services/identity/countries.ts";
import type { IdentityKeys } from "#services/identity/identity-keys.ts";
import type { OneAtATime } from "#services/identity/one-at-a-time.ts";
import type { PasswordHashing } from "#services/identity/password-hashing.ts";
import type { Seal } from "#services/identity/seal.ts";
import type { Shard } from "#services/identity/shard.ts";
import type { Wakes } from "#services/identity/shard-worker.ts";
import type { SigningKeys } from "#services/identity/signing-keys.ts";

/** What the handlers work with; built once in main.ts. */
export interface Context {
  readonly log: Logger;
  readonly shards: readonly Shard[];
  readonly bucketMap: BucketMap;
  readonly shardOfBucket: (bucket: number) => Shard;
  readonly newId: NewId;
  readonly pageTokens: PageTokens;
  readonly keys: IdentityKeys;
  readonly passwords: PasswordHashing;
  /** Of everything that costs a password hash and can be asked for without a token. */
  readonly addressLimit: AddressLimit;
  /** Sign-ups, by address. */
  readonly signUps: OneAtATime;
  readonly signingKeys: SigningKeys;
  /** Of the secrets of authenticators. */
  readonly factorSeal: Seal;
  readonly countryOf: CountryOf;
  /** `iss` of the access tokens. */
  readonly tokenIssuer: string;
  readonly ledger: LedgerServiceClient;
  /** For the workers: something was written for them. */
  readonly emailWake: Wakes;
  readonly changeWake: Wakes;
  readonly nowMs: () => number;
}
