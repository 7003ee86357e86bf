import { noteOffenders, type OffenderRow, offendersOf, type ShardReader, slicesOf } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";

/**
 * Invariant 5 of `ledgermesh check`: no idempotency key has two effects, and no effect two keys. A key is a row, so it has one
 * resource; what is looked for is a resource under two keys, a key whose command left nothing behind, and a transfer
 * whose key is gone before its time. Key and effect are of one commit, and one statement sees both or neither.
 */

/** The shortest retention there is. Keys expire oldest first, and a sweep may leave single ones behind for a while. */
const EXPIRY_MARGIN = "interval '1 day'";

/** Those of unfinished transfers stay, however old they are. */
const OLDEST_KEY = `
  select created_at from ledger.idempotency_keys k
   where not exists (select from ledger.decisions d where d.transfer_id = k.resource_id and d.state = 'COMMITTED')
   order by created_at limit 1`;

/** @param rows about how many keys there are */
export async function checkKeys(reader: ShardReader, notebook: Notebook, rows: number): Promise<void> {
  const [counts] = await reader.ask<{ keys: string; keys_since: string | null }>({
    // What is younger than the shortest retention (services/ledger/expire-keys.sql), or than the oldest key, has its key.
    text: `select (select count(*) from ledger.idempotency_keys) as keys,
                  to_char(least(now() - ${EXPIRY_MARGIN}, (${OLDEST_KEY}) + ${EXPIRY_MARGIN}) at time zone 'UTC',
                          'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as keys_since`,
  });
  notebook.looked("keys", Number(counts?.keys ?? 0));
  const since = lowestUuidOf(counts?.keys_since ?? null);
  for (const slice of slicesOf("resource_id", Math.max(rows, Number(counts?.keys ?? 0)))) {
    const offenders = await reader.ask<OffenderRow>({
      text: offendersOf(`
        with keys as materialized (
          select bucket, caller, method, key, resource_id, refusal is not null as refused, event_number
            from ledger.idempotency_keys where ${slice}
        ), ids as (select transfer_id as resource_id from ledger.transfers)
        select 'SEVERAL_KEYS' as reason, json_build_object('resource_id', resource_id, 'keys', string_agg(
                 concat_ws(' ', bucket, caller, method, key), '; ')) as ids, 'one key' as expected, count(*) || ' keys' as found
          from keys group by resource_id having count(*) > 1
        union all
        select case when refused then 'REFUSED_WITH_EFFECT' else 'KEY_WITHOUT_EFFECT' end,
               json_build_object('bucket', bucket, 'caller', caller, 'method', method, 'key', key, 'resource_id', resource_id),
               case when refused then 'nothing' else 'what the command made' end, effects || ' rows'
          from (select k.*, num_nonnulls(t.transfer_id, a.account_id, k.event_number) as effects
                  from keys k left join ledger.transfers t on t.transfer_id = k.resource_id
                  left join ledger.accounts a on a.account_id = k.resource_id) k
         where refused <> (effects = 0)
        union all
        select 'TRANSFER_WITHOUT_KEY', json_build_object('transfer_id', resource_id), 'a key', 'none'
          from ids where resource_id >= $1 and ${slice} and not exists (select from keys k where k.resource_id = ids.resource_id)`),
      values: [since],
    });
    noteOffenders(notebook, offenders);
  }
}

/** The lowest id that is made at a time or after it. */
function lowestUuidOf(time: string | null): string {
  const ms = time === null ? 0 : Math.max(0, Date.parse(time));
  const hex = ms.toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}
