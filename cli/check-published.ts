import { setTimeout as sleep } from "node:timers/promises";
import type { Cut } from "#cli/check-cut.ts";
import type { ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { Interrupted } from "#cli/patience.ts";
import { ageOfFirstEventAfterMs } from "#cli/read-log.ts";

/** Events wait while NATS or the relay is started again. */
const PUBLISHED_WITHIN_MS = 60_000;
/** A relay that is only behind moves its cursor many times in so long. */
const LOOK_MS = 5_000;
const LOOK_EVERY_MS = 250;
const REMARKABLE_LAG_EVENTS = 10_000n;

/** The relay's cursor: not beyond the head, and moving as long as it is behind. */
export async function checkPublished(reader: ShardReader, notebook: Notebook, cut: Cut): Promise<void> {
  const { head, publishedTo } = cut;
  if (publishedTo > head) {
    const ids = { event_number: publishedTo.toString() };
    notebook.found({ reason: "CURSOR_BEYOND_HEAD", ids, expected: `at most ${head}`, found: publishedTo.toString() });
    return;
  }
  if (publishedTo === head) return;
  const startedMs = performance.now();
  for (;;) {
    const number = await readCursor(reader, cut.shard);
    if (number !== publishedTo) {
      const lag = head - number;
      if (lag > REMARKABLE_LAG_EVENTS) notebook.remark(`${lag} events of before are still to be published`);
      return;
    }
    if (performance.now() - startedMs > LOOK_MS) {
      const waitsForMs = await ageOfFirstEventAfterMs(reader.db, publishedTo);
      const found = `waits for ${Math.round(waitsForMs / 1_000)} s, and the relay does not move`;
      const ids = { event_number: (publishedTo + 1n).toString() };
      if (waitsForMs <= PUBLISHED_WITHIN_MS) notebook.remark(`event ${ids.event_number} ${found}`);
      else notebook.found({ reason: "NOT_PUBLISHED", ids, expected: "on its way within seconds", found });
      return;
    }
    if (reader.signal.aborted) throw new Interrupted("Stopped.");
    await sleep(LOOK_EVERY_MS);
  }
}

async function readCursor(reader: ShardReader, shard: number): Promise<bigint> {
  const [row] = await reader.ask<{ number: string }>({
    text: "select number from relay.cursor where shard = $1",
    values: [shard],
  });
  return BigInt(row?.number ?? 0);
}
