-- Up Migration

-- Legs that are prepared keep room in the transit account as well, so that posting them can not leave the range of int64
-- there. What was prepared before has its room from here on.
update ledger.accounts a
   set prepared_debit_minor_units = l.debits, prepared_credit_minor_units = l.credits
  from (select currency, coalesce(sum(amount_minor_units) filter (where not debit_is_here), 0) as debits,
               coalesce(sum(amount_minor_units) filter (where not credit_is_here), 0) as credits
          from ledger.remote_legs where state = 'PREPARED' group by currency) l
 where a.reference = 'system:transit' and a.currency = l.currency;
