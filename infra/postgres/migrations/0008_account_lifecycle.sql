-- Up Migration

-- The accounts of an owner, newest first (an id sorts by its time). accounts_by_reference has only those with a reference.
-- Without the services' own accounts, which are looked up by reference. Neither column ever changes, so that the updates of
-- balances stay heap-only and a transfer pays nothing for it; opening an account pays for one more index entry.
create index accounts_by_owner on ledger.accounts (owner_id, account_id) where owner_id <> '';
