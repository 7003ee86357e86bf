import { startGrpcServer, type UnaryMethod, unary } from "#lib/grpc-server.ts";
import { idGenerator } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import { type IdentitySource, openAccess } from "#lib/open-access.ts";
import { pageTokens } from "#lib/page-token.ts";
import { type RunningService, runService } from "#lib/service.ts";
import { openServiceClient } from "#lib/service-client.ts";
import { shardOfBucket } from "#lib/shards.ts";
import { openTls } from "#lib/tls.ts";
import { IdentityServiceService } from "#proto/ledgermesh/identity/v1/identity.ts";
import { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { addressLimit } from "#services/identity/address-limit.ts";
import { changeEmail } from "#services/identity/change-email.ts";
import { changePassword } from "#services/identity/change-password.ts";
import { closeUser } from "#services/identity/close-user.ts";
import { type Config, config } from "#services/identity/config.ts";
import { confirmEmail } from "#services/identity/confirm-email.ts";
import { confirmTotp } from "#services/identity/confirm-totp.ts";
import type { Context } from "#services/identity/context.ts";
import { openCountries } from "#services/identity/countries.ts";
import { createFundingSource } from "#services/identity/create-funding-source.ts";
import { createSession } from "#services/identity/create-session.ts";
import { createUser } from "#services/identity/create-user.ts";
import { deleteFundingSource } from "#services/identity/delete-funding-source.ts";
import { deleteSession } from "#services/identity/delete-session.ts";
import { disableTotp } from "#services/identity/disable-totp.ts";
import { enrolTotp } from "#services/identity/enrol-totp.ts";
import { exportUser } from "#services/identity/export-user.ts";
import { finishEmailChanges } from "#services/identity/finish-email-changes.ts";
import { forgetDevice } from "#services/identity/forget-device.ts";
import { getFundingSource } from "#services/identity/get-funding-source.ts";
import { getJwks } from "#services/identity/get-jwks.ts";
import { getUser } from "#services/identity/get-user.ts";
import { grantRole } from "#services/identity/grant-role.ts";
import { identityKeys } from "#services/identity/identity-keys.ts";
import { listDevices } from "#services/identity/list-devices.ts";
import { listFundingSources } from "#services/identity/list-funding-sources.ts";
import { listRevokedSessions } from "#services/identity/list-revoked-sessions.ts";
import { listSessions } from "#services/identity/list-sessions.ts";
import { maintain } from "#services/identity/maintenance.ts";
import { oneAtATime } from "#services/identity/one-at-a-time.ts";
import { passwordHashing } from "#services/identity/password-hashing.ts";
import { readMap } from "#services/identity/read-map.ts";
import { refreshSession } from "#services/identity/refresh-session.ts";
import { sealFor } from "#services/identity/seal.ts";
import { sendEmails } from "#services/identity/send-emails.ts";
import { openShard, type Shard } from "#services/identity/shard.ts";
import { wakes } from "#services/identity/shard-worker.ts";
import { openSigningKeys } from "#services/identity/signing-keys.ts";
import { updateUser } from "#services/identity/update-user.ts";

/** Keys belong to no user: they are in one place. */
const SIGNING_KEYS_SHARD = 1;

async function start(settings: Config, log: Logger): Promise<RunningService> {
  const map = await readMap(settings.shards, log);
  const shards = settings.shards.map((url, index) => openShard(index + 1, url, log));
  const tls = openTls(settings.tls, { log });
  const stopping = new AbortController();
  const signingKeys = await openSigningKeys(
    shards[SIGNING_KEYS_SHARD - 1] as Shard,
    sealFor("signing keys", settings.keyEncryptionKey),
    settings.signingKeyDays,
    log,
    stopping.signal,
  );
  const ctx: Context = {
    log,
    shards,
    bucketMap: map,
    shardOfBucket(bucket): Shard {
      const number = shardOfBucket(map, bucket);
      const shard = shards[number - 1];
      if (shard === undefined) throw new Error(`the bucket map names shard ${number}; ${shards.length} are configured`);
      return shard;
    },
    newId: idGenerator(Date.now),
    pageTokens: pageTokens(settings.pageTokenKey, Date.now),
    keys: identityKeys(settings.identityKey),
    passwords: await passwordHashing(),
    addressLimit: addressLimit(settings.addressLimit, Date.now),
    signUps: oneAtATime(),
    signingKeys,
    factorSeal: sealFor("second factor", settings.keyEncryptionKey),
    countryOf: await openCountries(),
    tokenIssuer: settings.tokenIssuer,
    ledger: openServiceClient(LedgerServiceClient, settings.ledgerAddress, tls),
    emailWake: wakes(shards.length),
    changeWake: wakes(shards.length),
    nowMs: Date.now,
  };
  const handlers = {
    createUser: unary(ctx, log, createUser),
    createSession: unary(ctx, log, createSession),
    refreshSession: unary(ctx, log, refreshSession),
    getUser: unary(ctx, log, getUser),
    updateUser: unary(ctx, log, updateUser),
    changePassword: unary(ctx, log, changePassword),
    changeEmail: unary(ctx, log, changeEmail),
    confirmEmail: unary(ctx, log, confirmEmail),
    closeUser: unary(ctx, log, closeUser),
    exportUser: unary(ctx, log, exportUser),
    listSessions: unary(ctx, log, listSessions),
    deleteSession: unary(ctx, log, deleteSession),
    grantRole: unary(ctx, log, grantRole),
    enrolTotp: unary(ctx, log, enrolTotp),
    confirmTotp: unary(ctx, log, confirmTotp),
    disableTotp: unary(ctx, log, disableTotp),
    listDevices: unary(ctx, log, listDevices),
    forgetDevice: unary(ctx, log, forgetDevice),
    createFundingSource: unary(ctx, log, createFundingSource),
    listFundingSources: unary(ctx, log, listFundingSources),
    getFundingSource: unary(ctx, log, getFundingSource),
    deleteFundingSource: unary(ctx, log, deleteFundingSource),
    getJwks: unary(ctx, log, getJwks),
    listRevokedSessions: unary(ctx, log, listRevokedSessions),
  } satisfies Record<keyof typeof IdentityServiceService, UnaryMethod>;
  const working = [
    signingKeys.working,
    sendEmails(ctx, settings.mail, stopping.signal),
    finishEmailChanges(ctx, stopping.signal),
    maintain(ctx, stopping.signal),
  ];
  const access = await openAccess(settings.access, itself(ctx), log);
  const server = await startGrpcServer(
    settings.grpcPort,
    [{ definition: IdentityServiceService, handlers, access }],
    tls,
  );
  return {
    notReady: () => (shards.some((shard) => shard.reachable()) ? undefined : "no shard answers"),
    async stop() {
      await server.stop();
      stopping.abort();
      await Promise.all(working);
      await access.stop();
      await ctx.passwords.stop();
      ctx.ledger.close();
      await Promise.all(shards.map((shard) => shard.close()));
    },
  };
}

/** What identity tells the other services, it tells itself. */
function itself(ctx: Context): IdentitySource {
  return {
    signingKeys: async () => (await getJwks(ctx, {})).keys,
    revokedSessions: (cursor) => listRevokedSessions(ctx, { cursor }),
    close: () => {},
  };
}

const settings = config();
await runService("identity", settings.healthPort, (log) => start(settings, log));
