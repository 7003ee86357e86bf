import { startGrpcServer, type UnaryMethod, unary } from "#lib/grpc-server.ts";
import { idGenerator } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import { pageTokens } from "#lib/page-token.ts";
import { type RunningService, runService } from "#lib/service.ts";
import { shardOfBucket } from "#lib/shards.ts";
import { openTls } from "#lib/tls.ts";
import { IdentityServiceService } from "#proto/ledgermesh/identity/v1/identity.ts";
import { addressLimit } from "#services/identity/address-limit.ts";
import { type Config, config } from "#services/identity/config.ts";
import type { Context } from "#services/identity/context.ts";
import { createUser } from "#services/identity/create-user.ts";
import { identityKeys } from "#services/identity/identity-keys.ts";
import { passwordHashing } from "#services/identity/password-hashing.ts";
import { readMap } from "#services/identity/read-map.ts";
import { openShard, type Shard } from "#services/identity/shard.ts";

async function start(settings: Config, log: Logger): Promise<RunningService> {
  const map = await readMap(settings.shards, log);
  const shards = settings.shards.map((url, index) => openShard(index + 1, url, log));
  const ctx: Context = {
    log,
    shards,
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
  };
  const handlers = {
    createUser: unary(ctx, log, createUser),
  } satisfies Record<keyof typeof IdentityServiceService, UnaryMethod>;
  const server = await startGrpcServer(
    settings.grpcPort,
    [{ definition: IdentityServiceService, handlers }],
    openTls(settings.tls, { log }),
  );
  return {
    notReady: () => (shards.some((shard) => shard.reachable()) ? undefined : "no shard answers"),
    async stop() {
      await server.stop();
      await Promise.all(shards.map((shard) => shard.close()));
    },
  };
}

const settings = config();
await runService("identity", settings.healthPort, (log) => start(settings, log));
