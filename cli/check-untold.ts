import type { Cut } from "#cli/check-cut.ts";
import { noteOffenders, type OffenderRow, offendersOf, type ShardReader, slicesOf } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";

/** The other direction of invariant 7: what is there and no event tells of. */

const SLICE_EVENTS = 4_000_000;

/** By number, in slices. Row and event are of one commit. */
export async function checkToldOnce(reader: ShardReader, notebook: Notebook, cut: Cut): Promise<void> {
  const slices = Math.max(1, Math.ceil(Number(cut.head) / SLICE_EVENTS));
  for (let slice = 0; slice < slices; slice += 1) {
    const inSlice = (column: string) => (slices === 1 ? "true" : `${column} % ${slices} = ${slice}`);
    const untold = (reason: string, id: string, rows: string, type: string) => `
      select '${reason}' as reason, json_build_object('${id}', r.id, 'event_number', r.number) as ids,
             'an event of its own' as expected,
             case when e.number is null then 'none' else 'that of another, too' end as found
        from (select number, id, count(*) over (partition by number) as rows from (${rows}) r
               where ${inSlice("coalesce(number, 0)")}) r
        left join (select number from ledger.events where type = '${type}' and ${inSlice("number")}) e on e.number = r.number
       where e.number is null or r.rows <> 1`;
    noteOffenders(
      notebook,
      await reader.ask<OffenderRow>({
        text: offendersOf(
          [
            untold(
              "TRANSFER_WITHOUT_EVENT",
              "transfer_id",
              "select event_number as number, transfer_id as id from ledger.transfers",
              "transfer_posted",
            ),
            untold(
              "LEG_WITHOUT_EVENT",
              "transfer_id",
              "select distinct event_number as number, transfer_id as id from ledger.remote_legs where state = 'POSTED'",
              "transfer_leg_posted",
            ),
            untold(
              "ACCOUNT_WITHOUT_EVENT",
              "account_id",
              "select open_event_number as number, account_id as id from ledger.accounts",
              "account_created",
            ),
          ].join(" union all "),
        ),
      }),
    );
  }
}

/** There are not as many entries as all events tell of: which transfers have more, or no row at all. Dear, and rare. */
export async function findUntoldEntries(reader: ShardReader, notebook: Notebook, entries: number): Promise<void> {
  for (const slice of slicesOf("transfer_id", entries)) {
    const rows = await reader.ask<OffenderRow>({
      text: offendersOf(`
        select 'ENTRIES_NOT_TOLD' as reason, json_build_object('transfer_id', transfer_id) as ids,
               told || ' entries' as expected, entries || ' entries' as found
          from (select c.transfer_id, c.entries, n.event_number, coalesce(regexp_count(e.payload, '"sequence":"'), 0) as told
                  from (select transfer_id, count(*) as entries from ledger.entries where ${slice} group by transfer_id) c
                  left join lateral (select event_number from ledger.transfers t where t.transfer_id = c.transfer_id
                                     union all
                                     select event_number from ledger.remote_legs l where l.transfer_id = c.transfer_id limit 1) n on true
                  left join ledger.events e on e.number = n.event_number) c
         where entries > told and (told > 0 or event_number is null)`),
    });
    noteOffenders(notebook, rows);
  }
}
