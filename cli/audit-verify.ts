import { Pool } from "pg";
import { Interrupted } from "#cli/patience.ts";
import { formatCount, type Screen } from "#cli/progress.ts";
import { readLogEnd } from "#cli/read-log.ts";
import { whyNotShard, whyUnreadable } from "#cli/shard-connections.ts";
import { type Anchor, type Verification, verifyEvents } from "#cli/verify-events.ts";
import { Problem } from "#infra/local/problem.ts";

/** `ledgermesh audit verify`: every shard's events against their seals, one shard after the other. */
export interface AuditResult {
  readonly shards: readonly ShardAudit[];
  readonly durationMs: number;
}

export type ShardAudit =
  | { readonly kind: "verified"; readonly shard: number; readonly verification: Verification }
  | { readonly kind: "impossible"; readonly shard: number; readonly reason: string };

/** One for the events, one for the seals; each reads the next page while a page is looked at. */
const CONNECTIONS = 2;
const CONNECT_TIMEOUT_MS = 5_000;
/** A page takes milliseconds; this is a server that went away without a word. */
const QUERY_TIMEOUT_MS = 60_000;
const SILENT_MS = 2_000;
const PROGRESS_EVERY_MS = 2_000;

/** Verifies all shards; what one cannot be checked for does not stop the others. Throws a Problem for an anchor of no shard. */
export async function auditVerify(options: {
  /** Connection strings, shard 1 first. */
  readonly shards: readonly string[];
  readonly anchors: readonly Anchor[];
  readonly signal: AbortSignal;
  readonly screen: Screen;
}): Promise<AuditResult> {
  const { shards, anchors, signal, screen } = options;
  const stray = anchors.find(({ shard }) => shard > shards.length);
  if (stray !== undefined)
    throw new Problem(`There is no shard ${stray.shard} to expect a hash of: the shards are 1 to ${shards.length}.`);
  const startedMs = performance.now();
  const audits: ShardAudit[] = [];
  for (const [index, connectionString] of shards.entries()) {
    const shard = index + 1;
    const onProgress = progressWords(screen, shard);
    const ofShard = anchors.filter((anchor) => anchor.shard === shard);
    audits.push(await auditShard(connectionString, shard, shards.length, { anchors: ofShard, signal, onProgress }));
  }
  return { shards: audits, durationMs: performance.now() - startedMs };
}

async function auditShard(
  connectionString: string,
  shard: number,
  shardCount: number,
  options: Parameters<typeof verifyEvents>[2],
): Promise<ShardAudit> {
  const impossible = (reason: string) => ({ kind: "impossible", shard, reason }) as const;
  let db: Pool | undefined;
  try {
    db = new Pool({
      connectionString,
      max: CONNECTIONS,
      application_name: "audit",
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
    });
    // What a lost connection breaks off says so itself.
    db.on("error", () => {});
    const end = await readLogEnd(db);
    const stranger = whyNotShard(shard, shardCount, end);
    if (stranger !== undefined) return impossible(stranger);
    return { kind: "verified", shard, verification: await verifyEvents(db, end, options) };
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    return impossible(whyUnreadable(connectionString, error));
  } finally {
    await db?.end();
  }
}

/** A word now and then once it takes longer than a moment. */
function progressWords(screen: Screen, shard: number): (events: bigint, of: bigint) => void {
  let dueMs = performance.now() + SILENT_MS;
  return (events, of) => {
    const nowMs = performance.now();
    if (nowMs < dueMs) return;
    dueMs = nowMs + PROGRESS_EVERY_MS;
    const percent = of === 0n ? 100n : (100n * events) / of;
    screen.write(
      `shard ${shard}: ${formatCount(Number(events))} of ${formatCount(Number(of))} events (${percent} %)\n`,
    );
  };
}
