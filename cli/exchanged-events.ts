import { hashEvent } from "#lib/event-chain.ts";
import type { StoredEvent } from "#lib/events.ts";

/** Altered events that hold what was sealed under another number. */

/** An event as it is in the log, and the hash it was sealed with. */
export interface AlteredEvent {
  readonly event: StoredEvent;
  readonly sealedHash: Buffer;
}

export interface Exchange {
  readonly kind: "swapped" | "moved";
  /** The event that stands in the wrong place. */
  readonly at: bigint;
  /** Where it was sealed. */
  readonly from: bigint;
}

/** What may have been carried from one row to another, most likely first. */
const CARRIED: readonly ((event: StoredEvent) => Partial<StoredEvent>)[] = [
  ({ payload }) => ({ payload }),
  ({ number: _number, occurredAt: _occurredAt, ...rest }) => rest,
  ({ number: _number, ...rest }) => rest,
];

/** Finds the pairs that were swapped, and what else was carried to another number; the rest was simply altered. */
export function findExchanges(shard: number, altered: readonly AlteredEvent[]): Exchange[] {
  const exchanges: Exchange[] = [];
  const explained = new Set<bigint>();
  for (const one of altered) {
    if (explained.has(one.event.number)) continue;
    for (const other of altered) {
      if (other === one || !restores(shard, one, other)) continue;
      const swapped = !explained.has(other.event.number) && restores(shard, other, one);
      exchanges.push({ kind: swapped ? "swapped" : "moved", at: one.event.number, from: other.event.number });
      explained.add(one.event.number);
      if (swapped) explained.add(other.event.number);
      break;
    }
  }
  return exchanges;
}

/** Whether something of `one` makes `other` what it was when it was sealed. */
function restores(shard: number, one: AlteredEvent, other: AlteredEvent): boolean {
  return CARRIED.some((carried) =>
    hashEvent(shard, { ...other.event, ...carried(one.event) }).equals(other.sealedHash),
  );
}
