import { Client } from "pg";
import { startGrpcServer, type UnaryMethod, unary } from "#lib/grpc-server.ts";
import { identitySource } from "#lib/identity-source.ts";
import { bucketOfUuid, idGenerator, idToUuid } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import { openAccess } from "#lib/open-access.ts";
import { pageTokens } from "#lib/page-token.ts";
import { type RunningService, runService } from "#lib/service.ts";
import { type BucketMap, readBucketMap, shardOfBucket } from "#lib/shards.ts";
import { openTls } from "#lib/tls.ts";
import { LedgerServiceService } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { batchCreateAccounts } from "#services/ledger/batch-create-accounts.ts";
import { batchCreateTransfers } from "#services/ledger/batch-create-transfers.ts";
import { captureHold } from "#services/ledger/capture-hold.ts";
import { closeAccount } from "#services/ledger/close-account.ts";
import { committedHints } from "#services/ledger/committed-hints.ts";
import { type Config, config } from "#services/ledger/config.ts";
import type { Context } from "#services/ledger/context.ts";
import { createAccount } from "#services/ledger/create-account.ts";
import { createConversion } from "#services/ledger/create-conversion.ts";
import { createHold } from "#services/ledger/create-hold.ts";
import { createQuote } from "#services/ledger/create-quote.ts";
import { createTransfer } from "#services/ledger/create-transfer.ts";
import { expireHolds } from "#services/ledger/expire-holds.ts";
import { freezeAccount } from "#services/ledger/freeze-account.ts";
import { getAccount } from "#services/ledger/get-account.ts";
import { getHold } from "#services/ledger/get-hold.ts";
import { getQuote } from "#services/ledger/get-quote.ts";
import { getTransfer } from "#services/ledger/get-transfer.ts";
import { listAccountEntries } from "#services/ledger/list-account-entries.ts";
import { listAccounts } from "#services/ledger/list-accounts.ts";
import { maintain } from "#services/ledger/maintenance.ts";
import { recover } from "#services/ledger/recover.ts";
import { reverseTransfer } from "#services/ledger/reverse-transfer.ts";
import { setRates } from "#services/ledger/set-rates.ts";
import { openShard } from "#services/ledger/shard.ts";
import { shardHandle } from "#services/ledger/shard-handle.ts";
import { unfreezeAccount } from "#services/ledger/unfreeze-account.ts";
import { voidHold } from "#services/ledger/void-hold.ts";

async function start(settings: Config, log: Logger): Promise<RunningService> {
  const map = await readMap(settings.shards, log);
  const hints = committedHints(settings.natsUrl, log);
  const handles = settings.shards.map((url, index) => shardHandle(openShard(index + 1, url, map, log), hints, log));
  const shardOf = (shard: number) => {
    const handle = handles[shard - 1];
    if (handle === undefined) throw new Error(`the bucket map names shard ${shard}; ${handles.length} are configured`);
    return handle;
  };
  const ctx: Context = {
    log,
    map,
    shardOf,
    shardOfId: (id) => shardOf(shardOfBucket(map, bucketOfUuid(idToUuid(id)))),
    shards: handles,
    newId: idGenerator(Date.now),
    pageTokens: pageTokens(settings.pageTokenKey, Date.now),
  };
  const handlers = {
    createAccount: unary(ctx, log, createAccount),
    batchCreateAccounts: unary(ctx, log, batchCreateAccounts),
    getAccount: unary(ctx, log, getAccount),
    listAccounts: unary(ctx, log, listAccounts),
    freezeAccount: unary(ctx, log, freezeAccount),
    unfreezeAccount: unary(ctx, log, unfreezeAccount),
    closeAccount: unary(ctx, log, closeAccount),
    listAccountEntries: unary(ctx, log, listAccountEntries),
    createTransfer: unary(ctx, log, createTransfer),
    batchCreateTransfers: unary(ctx, log, batchCreateTransfers),
    getTransfer: unary(ctx, log, getTransfer),
    setRates: unary(ctx, log, setRates),
    createQuote: unary(ctx, log, createQuote),
    getQuote: unary(ctx, log, getQuote),
    createConversion: unary(ctx, log, createConversion),
    createHold: unary(ctx, log, createHold),
    captureHold: unary(ctx, log, captureHold),
    voidHold: unary(ctx, log, voidHold),
    getHold: unary(ctx, log, getHold),
    reverseTransfer: unary(ctx, log, reverseTransfer),
  } satisfies Record<keyof typeof LedgerServiceService, UnaryMethod>;
  const stopping = new AbortController();
  const working = [
    recover(ctx, stopping.signal),
    expireHolds(ctx, stopping.signal),
    maintain(handles, settings.keyRetentionDays, log, stopping.signal),
  ];
  const tls = openTls(settings.tls, { log });
  const access = await openAccess(settings.access, identitySource(settings.identityAddress, tls), log);
  const server = await startGrpcServer(
    settings.grpcPort,
    [{ definition: LedgerServiceService, handlers, access: settings.isPlaintext ? undefined : access }],
    settings.isPlaintext ? undefined : tls,
  );
  return {
    notReady: () => (handles.some(({ shard }) => shard.reachable()) ? undefined : "no shard answers"),
    async stop() {
      await server.stop();
      await access.stop();
      stopping.abort();
      await Promise.all(working);
      await Promise.all(handles.flatMap(({ commands, accounts }) => [commands.drained(), accounts.drained()]));
      await hints.close();
      await Promise.all(handles.map(({ shard }) => shard.close()));
    },
  };
}

/** The bucket map, from the first shard that answers: one shard that is away must not keep the others from working. */
async function readMap(shards: readonly string[], log: Logger): Promise<BucketMap> {
  for (const [index, connectionString] of shards.entries()) {
    const db = new Client({ connectionString, connectionTimeoutMillis: 2_000 });
    try {
      await db.connect();
      return (await readBucketMap(db)).map;
    } catch (error) {
      log.warn({ shard: index + 1, error: String(error) }, "the shard did not tell its bucket map");
    } finally {
      await db.end().catch(() => {});
    }
  }
  throw new Error("no shard answers");
}

const settings = config();
await runService("ledger", settings.healthPort, (log) => start(settings, log));
