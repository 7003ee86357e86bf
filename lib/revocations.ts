import { accessRefusals } from "#lib/access-refusals.ts";
import { pause } from "#lib/back-off.ts";
import { parseId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";

/**
 * The sessions that were ended while access tokens of theirs may still be good, as identity tells them. It is asked every
 * few seconds for what is new; who cannot ask for a minute trusts no session any more. What identity cannot read itself, of a
 * shard that does not answer, it says: after a minute the sessions of that shard alone are not trusted.
 */

/** What identity answers. */
export interface RevokedSessions {
  readonly sessionIds: readonly string[];
  /** Where the next page begins. */
  readonly cursor: string;
  readonly hasMore: boolean;
  /** Ranges of buckets, `last` included, whose sessions are missing. */
  readonly unreadable: readonly BucketRange[];
}

interface BucketRange {
  readonly first: number;
  readonly last: number;
}

export interface Revocations {
  /** Throws a Refusal when the session was ended (`SESSION_REVOKED`), or nobody knows (`REVOCATIONS_UNKNOWN`). */
  requireNotRevoked(sessionId: string): void;
  stop(): Promise<void>;
}

const POLL_INTERVAL_MS = 15_000;
const RETRY_INTERVAL_MS = 2_000;
/** Fails closed after this: a session that is ended is of no use within a minute. */
const TRUSTED_FOR_MS = 60_000;
/** A minute more than a token lives (lib/access-token.ts): afterwards there is nothing left to refuse. */
const KEPT_FOR_MS = 11 * 60_000;
const MAX_REVOKED = 1_000_000;
/** In one round: more are read in the next. */
const MAX_PAGES = 1_000;

/** Is in no range. */
const NO_BUCKET = -1;

/** Asks identity from now on until it is stopped. `fetchRevoked` gets the cursor of the page before; empty at first. */
export function openRevocations(
  fetchRevoked: (cursor: string) => Promise<RevokedSessions>,
  log: Logger,
  clockMs: () => number = () => performance.now(),
): Revocations {
  /** Session to the time when it may be forgotten; in the order of these times. */
  const revoked = new Map<string, number>();
  let cursor = "";
  let completeAtMs = Number.NEGATIVE_INFINITY;
  /** What is missing, and since when: until then it was complete. */
  let missing: readonly (BucketRange & { readonly sinceMs: number })[] = [];
  let answers = true;

  function forgetOld(): void {
    const now = clockMs();
    for (const [sessionId, untilMs] of revoked) {
      if (untilMs > now) break;
      revoked.delete(sessionId);
    }
  }

  /** Until when all ended sessions of these buckets are known. */
  function completeUntilMs(first: number, last: number): number {
    const parts = missing.filter((range) => range.first <= last && first <= range.last);
    return Math.min(completeAtMs, ...parts.map(({ sinceMs }) => sinceMs));
  }

  async function poll(): Promise<boolean> {
    const beganMs = clockMs();
    try {
      for (let page = 0; page < MAX_PAGES; page += 1) {
        const { sessionIds, cursor: next, hasMore, unreadable } = await fetchRevoked(cursor);
        for (const sessionId of sessionIds) {
          // Deleted first, so that the order stays that of the times.
          revoked.delete(sessionId);
          revoked.set(sessionId, clockMs() + KEPT_FOR_MS);
        }
        cursor = next;
        if (hasMore) continue;
        forgetOld();
        if (revoked.size > MAX_REVOKED) throw new Error(`more than ${MAX_REVOKED} sessions were ended`);
        missing = unreadable.map(({ first, last }) => ({ first, last, sinceMs: completeUntilMs(first, last) }));
        completeAtMs = beganMs;
        break;
      }
      if (!answers) log.info("identity tells the ended sessions again");
      answers = true;
      return true;
    } catch (error) {
      if (answers) log.warn({ error: String(error) }, "identity does not tell the ended sessions");
      answers = false;
      return false;
    }
  }

  async function keepPolling(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) await pause((await poll()) ? POLL_INTERVAL_MS : RETRY_INTERVAL_MS, signal);
  }

  const stopping = new AbortController();
  const polling = keepPolling(stopping.signal);
  return {
    requireNotRevoked(sessionId) {
      if (revoked.has(sessionId)) throw accessRefusals.sessionRevoked();
      const bucket = parseId(sessionId, "sess")?.bucket ?? NO_BUCKET;
      if (clockMs() - completeUntilMs(bucket, bucket) > TRUSTED_FOR_MS) throw accessRefusals.revocationsUnknown();
    },
    async stop() {
      stopping.abort();
      await polling;
    },
  };
}
