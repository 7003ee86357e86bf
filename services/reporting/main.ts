import { BackOff } from "#lib/back-off.ts";
import { isUnavailable, openElasticsearch } from "#lib/elasticsearch.ts";
import { startGrpcServer, type UnaryMethod, unary } from "#lib/grpc-server.ts";
import { identitySource } from "#lib/identity-source.ts";
import type { Logger } from "#lib/log.ts";
import { openNats } from "#lib/nats.ts";
import { openAccess } from "#lib/open-access.ts";
import { pageTokens } from "#lib/page-token.ts";
import { type RunningService, runService } from "#lib/service.ts";
import { openTls } from "#lib/tls.ts";
import { HistoryServiceService } from "#proto/ledgermesh/reporting/v1/history.ts";
import { accountOwners } from "#services/reporting/account-owners.ts";
import { Checkpoints } from "#services/reporting/checkpoints.ts";
import { type Config, config } from "#services/reporting/config.ts";
import type { Context } from "#services/reporting/context.ts";
import { listEntries } from "#services/reporting/list-entries.ts";
import { listTransfers } from "#services/reporting/list-transfers.ts";
import { QueryLimit } from "#services/reporting/query-limit.ts";

const REQUEST_TIMEOUT_MS = 4_000;
const MAX_RUNNING_QUERIES = 64;
const MAX_WAITING_QUERIES = 512;
/** The gateway gives a query 6 s, of which a search may take four. */
const MAX_WAIT_MS = 1_500;
/** How often Elasticsearch is asked whether it is there. */
const LIVENESS_INTERVAL_MS = 2_000;

/** `projectedHintSubject` of every shard. */
const PROJECTED_HINTS = "projection.reached.*";

async function start(settings: Config, log: Logger): Promise<RunningService> {
  const elasticsearch = openElasticsearch(settings.elasticsearchUrl, REQUEST_TIMEOUT_MS);
  const checkpoints = new Checkpoints(elasticsearch);
  const ctx: Context = {
    elasticsearch,
    checkpoints,
    queryLimit: new QueryLimit(MAX_RUNNING_QUERIES, MAX_WAITING_QUERIES, MAX_WAIT_MS),
    pageTokens: pageTokens(settings.pageTokenKey, Date.now),
  };
  // Without NATS it works, and notices a checkpoint a little later.
  const nats = openNats(settings.natsUrl, "reporting", log);
  void nats.opened.then((connection) =>
    connection.subscribe(PROJECTED_HINTS, { callback: () => checkpoints.notify() }),
  );
  const stopping = new AbortController();
  let answers = false;
  async function watchElasticsearch(): Promise<void> {
    const interval = new BackOff(LIVENESS_INTERVAL_MS, LIVENESS_INTERVAL_MS);
    while (!stopping.signal.aborted) {
      try {
        await elasticsearch.cluster.health({ timeout: "1s" });
        answers = true;
      } catch (error) {
        if (answers) log.warn({ error: String(error) }, "Elasticsearch does not answer");
        answers = !isUnavailable(error);
      }
      await interval.wait(stopping.signal);
    }
  }
  const watching = watchElasticsearch();

  const handlers = {
    listEntries: unary(ctx, log, listEntries),
    listTransfers: unary(ctx, log, listTransfers),
  } satisfies Record<keyof typeof HistoryServiceService, UnaryMethod>;
  const tls = openTls(settings.tls, { log });
  const access = await openAccess(settings.access, identitySource(settings.identityAddress, tls), log);
  const server = await startGrpcServer(
    settings.grpcPort,
    [{ definition: HistoryServiceService, handlers, access, owners: { account_id: accountOwners(ctx) } }],
    tls,
  );
  return {
    notReady: () => (answers ? undefined : "Elasticsearch does not answer"),
    async stop() {
      await server.stop();
      await access.stop();
      stopping.abort();
      await watching;
      await nats.close();
      await elasticsearch.close();
    },
  };
}

const settings = config();
await runService("reporting", settings.healthPort, (log) => start(settings, log));
