-- Up Migration

-- It has further parameters now, and answers the clock as well (services/ledger/post-transfers.sql).
drop function if exists ledger.post_transfers(
  integer, uuid[], smallint[], text[], text[], text[], text[], text[], timestamptz[], timestamptz[], text[], integer[],
  uuid[], bigint[], smallint[], uuid[], smallint[], bigint[], bigint[], text[], uuid[], timestamptz[], timestamptz[],
  uuid[], bigint[], bigint[], bigint[], bigint[], text[], bigint[], bigint[], timestamptz[], timestamptz[],
  smallint[], text[], bigint[], text[], text[],
  smallint[], text[], text[], text[], text[]);
