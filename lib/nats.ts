import { connect, type NatsConnection } from "@nats-io/transport-node";
import { BackOff } from "#lib/back-off.ts";
import type { Logger } from "#lib/log.ts";

/**
 * One connection to NATS for the life of a process: it is tried for ever in the background, so that a process starts, and
 * stays, when NATS is away. Whoever waits for a request gets an error after its own time-out.
 */
export interface Nats {
  /** Resolves when NATS was reached for the first time; the connection then reconnects by itself. */
  readonly opened: Promise<NatsConnection>;
  /** Whether it is connected at this moment. */
  readonly connected: () => boolean;
  readonly close: () => Promise<void>;
}

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** A server that answers none of two pings is given up. */
const PING_INTERVAL_MS = 10_000;

/** Opens a connection under a name that the server shows. `url` is `nats://user:password@host:port`. */
export function openNats(url: string, name: string, log: Logger): Nats {
  const { host, username, password } = new URL(url);
  const closing = new AbortController();
  let connection: NatsConnection | undefined;
  let connected = false;

  async function open(): Promise<NatsConnection> {
    const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
    for (;;) {
      try {
        connection = await connect({
          servers: host,
          name,
          ...(username === "" ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) }),
          timeout: CONNECT_TIMEOUT_MS,
          pingInterval: PING_INTERVAL_MS,
          maxReconnectAttempts: -1,
          reconnectDelayHandler: () => MAX_RETRY_MS * (0.25 + Math.random() / 4),
          ignoreAuthErrorAbort: true,
          ignoreClusterUpdates: true,
        });
        connected = true;
        void watch(connection);
        return connection;
      } catch (error) {
        log.warn({ error: String(error) }, "NATS does not answer; trying again");
        await backOff.wait(closing.signal);
        if (closing.signal.aborted) return new Promise(() => {});
      }
    }
  }

  async function watch(open: NatsConnection): Promise<void> {
    for await (const { type } of open.status()) {
      if (type === "disconnect") {
        if (connected) log.warn("the connection to NATS is lost");
        connected = false;
      } else if (type === "reconnect") {
        connected = true;
        log.info("connected to NATS again");
      }
    }
  }

  return {
    opened: open(),
    connected: () => connected,
    close: async () => {
      closing.abort();
      await connection?.close();
    },
  };
}
