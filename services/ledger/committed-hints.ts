import type { NatsConnection } from "@nats-io/transport-node";
import { committedHintSubject, LEDGER_LOG } from "#lib/events.ts";
import type { Logger } from "#lib/log.ts";
import { openNats } from "#lib/nats.ts";

/**
 * Tells the relay that something was committed, so that it need not poll. A hint: it may be lost, and NATS may be away; the
 * relay looks by itself now and then. It never delays a command.
 */
export interface CommittedHints {
  committed(shard: number): void;
  close(): Promise<void>;
}

export function committedHints(natsUrl: string, log: Logger): CommittedHints {
  const nats = openNats(natsUrl, "ledger", log);
  let connection: NatsConnection | undefined;
  void nats.opened.then((opened) => {
    connection = opened;
  });
  return {
    committed(shard) {
      if (nats.connected()) connection?.publish(committedHintSubject(LEDGER_LOG, shard));
    },
    close: nats.close,
  };
}
