-- One attempt out of an address's token bucket, if there is one.
create or replace function identity.take_sign_in_attempt(
  p_email_key bytea, p_bucket integer, p_burst double precision, p_per_second double precision,
  out taken boolean, out tokens double precision
) language plpgsql as $$
declare
  v_updated_at timestamptz;
begin
  insert into identity.sign_in_limits as l (email_key, bucket, tokens, updated_at)
    values (p_email_key, p_bucket, p_burst, clock_timestamp()) on conflict do nothing;
  select l.tokens, l.updated_at into tokens, v_updated_at
    from identity.sign_in_limits l where l.email_key = p_email_key for update;
  tokens := least(p_burst,
                  tokens + greatest(0, extract(epoch from clock_timestamp() - v_updated_at)::float8) * p_per_second);
  taken := tokens >= 1;
  if taken then
    tokens := tokens - 1;
  end if;
  update identity.sign_in_limits l set tokens = take_sign_in_attempt.tokens, updated_at = clock_timestamp()
   where l.email_key = p_email_key;
end $$;
