-- The lowest id whose first 48 bits (RFC 9562, UUIDv7: milliseconds since 1970) are at or after a time.
create or replace function ledger.first_id_of(at timestamptz) returns uuid language sql immutable as $$
  select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
