-- Writes which postings of earlier transfers are wholly taken back. The transfers are locked by the caller.
create or replace function ledger.write_reversed(transfer_ids uuid[], states text[], reversed_texts text[])
returns void language sql as $$
  update ledger.transfers t
     set state = n.state, reversed_postings = n.reversed_postings::smallint[]
    from unnest(transfer_ids, states, reversed_texts) n (transfer_id, state, reversed_postings)
   where t.transfer_id = n.transfer_id and t.state = 'POSTED';
$$;
