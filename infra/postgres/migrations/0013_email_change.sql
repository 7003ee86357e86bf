-- Up Migration

-- Which row of the directory is the user's: null for the one of the sign-up, otherwise the change of e-mail that brought it.
alter table identity.users add column directory_change_id uuid;
create unique index users_by_directory_change on identity.users (directory_change_id) where directory_change_id is not null;

-- Rows of the directory, on any shard, that are to go: written in the commit that makes them useless, deleted when they are gone.
-- They are named exactly: the same user may have reserved the same address anew.
create table identity.directory_releases (
  release_id   uuid primary key,
  bucket       smallint not null,
  user_id      uuid not null,
  email_key    bytea not null,
  change_id    uuid,
  created_at   timestamptz(3) not null default now()
);
create index directory_releases_by_age on identity.directory_releases (created_at, release_id);

-- A change that is done, or has released its reservation, has no row.
alter table identity.email_changes drop constraint email_changes_state_check;
alter table identity.email_changes add constraint email_changes_state_check
  check (state in ('REQUESTED', 'PENDING', 'CONFIRMED', 'CANCELED'));
alter table identity.email_changes drop column old_email_key;
-- The token follows from the change and our secret.
alter table identity.email_changes drop column token_hash;

-- A repeated refresh is known by the token that follows from its key.
alter table identity.sessions drop column refresh_key_hash;

grant select, insert, update, delete on identity.directory_releases to identity;
