import { connect, type NatsConnection } from "@nats-io/transport-node";
import { committedHintSubject } from "#lib/events.ts";
import type { Logger } from "#lib/log.ts";

/**
 * Tells the relay that something was committed, so that it need not poll. A hint: it may be lost, and NATS may be away; the
 * relay looks by itself now and then. It never delays a command.
 */
export interface CommittedHints {
  committed(shard: number): void;
  close(): Promise<void>;
}

const RECONNECT_WAIT_MS = 500;

export function committedHints(natsUrl: string, log: Logger): CommittedHints {
  const { host, username, password } = new URL(natsUrl);
  let connection: NatsConnection | undefined;
  let closed = false;
  void connect({
    servers: host,
    user: decodeURIComponent(username),
    pass: decodeURIComponent(password),
    name: "ledger",
    waitOnFirstConnect: true,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
  }).then(
    (opened) => {
      connection = opened;
      if (closed) void opened.close();
    },
    (error: unknown) =>
      log.warn({ error: String(error) }, "no connection to NATS: the relay will find commits by itself"),
  );
  return {
    committed(shard) {
      if (connection === undefined || connection.isClosed()) return;
      try {
        connection.publish(committedHintSubject(shard));
      } catch (error) {
        log.warn({ error: String(error) }, "a hint could not be sent");
      }
    },
    async close() {
      closed = true;
      await connection?.close();
    },
  };
}
