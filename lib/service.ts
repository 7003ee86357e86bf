import { createServer } from "node:http";
import { collectDefaultMetrics, register } from "prom-client";
import { createLogger, type Logger } from "#lib/log.ts";

/** How long a stopping service may take to finish what it accepted. */
const STOP_TIMEOUT_MS = 10_000;
/** Bound to loopback: one machine. Production puts a pod's own address here. */
const HEALTH_HOST = "127.0.0.1";

export interface RunningService {
  /** Undefined when it can do its work; otherwise what it waits for, in a few words. */
  readonly notReady: () => string | undefined;
  /** Refuses new work, finishes what was accepted, closes connections. */
  readonly stop: () => Promise<void>;
}

/**
 * The life of a process: start, serve `/healthz` and `/metrics` over HTTP, wait for SIGTERM or SIGINT, stop in order.
 * Exits with 1 when the start failed, or the stop did not end in time.
 */
export async function runService(
  name: string,
  healthPort: number,
  start: (log: Logger) => Promise<RunningService>,
): Promise<void> {
  const log = createLogger(name);
  collectDefaultMetrics();
  let service: RunningService;
  try {
    service = await start(log);
  } catch (error) {
    log.fatal({ error: String(error) }, "could not start");
    process.exit(1);
  }

  const health = createServer((request, response) => {
    if (request.url === "/metrics") {
      void register.metrics().then((text) => response.setHeader("content-type", register.contentType).end(text));
      return;
    }
    if (request.url !== "/healthz") {
      response.writeHead(404).end();
      return;
    }
    const reason = service.notReady();
    response.writeHead(reason === undefined ? 200 : 503, { "content-type": "application/json" });
    response.end(JSON.stringify(reason === undefined ? { status: "ok" } : { status: "not ready", reason }));
  });
  await new Promise<void>((resolve, reject) => health.once("error", reject).listen(healthPort, HEALTH_HOST, resolve));
  log.info({ healthPort }, "started");

  await new Promise<void>((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
  log.info("stopping");
  setTimeout(() => {
    log.error({ timeoutMs: STOP_TIMEOUT_MS }, "did not stop in time");
    process.exit(1);
  }, STOP_TIMEOUT_MS).unref();
  await service.stop();
  health.close();
  log.info("stopped");
  process.exit(0);
}
