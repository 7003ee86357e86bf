-- Signs a user up on the shard of their address, in one transaction. The directory row decides: of several at once the first
-- commits, and the others find its idempotency key, or that the address is somebody else's.
create or replace function identity.create_user(
  p_user_id uuid, p_bucket integer, p_role text, p_email text, p_email_key bytea, p_password_hash text, p_name text,
  p_phone text, p_country text, p_settings json, p_caller text, p_method text, p_key text, p_fingerprint bytea
) returns table (outcome text, known_user_id uuid, known_fingerprint bytea)
language plpgsql as $$
begin
  -- A reservation whose time is over counts as none.
  delete from identity.login_directory d
   where d.email_key = p_email_key and d.state = 'RESERVED' and d.expires_at <= clock_timestamp();
  insert into identity.login_directory (email_key, bucket, user_id, state)
    values (p_email_key, p_bucket, p_user_id, 'ACTIVE') on conflict do nothing;
  if not found then
    return query select 'key_known', k.resource_id, k.fingerprint from identity.idempotency_keys k
      join identity.login_directory d on d.email_key = p_email_key and d.user_id = k.resource_id
      where k.bucket = p_bucket and k.caller = p_caller and k.method = p_method and k.key = p_key;
    if not found then
      return query select 'email_used', null::uuid, null::bytea;
    end if;
    return;
  end if;
  -- The key of an earlier user of this address, who has gone.
  insert into identity.idempotency_keys as k (bucket, caller, method, key, fingerprint, resource_id)
    values (p_bucket, p_caller, p_method, p_key, p_fingerprint, p_user_id)
    on conflict (bucket, caller, method, key)
    do update set fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, created_at = now();
  insert into identity.users (user_id, bucket, role, status, email, email_key, password_hash, name, phone, country, settings)
    values (p_user_id, p_bucket, p_role, 'ACTIVE', p_email, p_email_key, p_password_hash, p_name, p_phone, p_country, p_settings);
  return query select 'created', p_user_id, p_fingerprint;
end $$;
