import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, readDetails } from "#lib/grpc-client.ts";
import { ledger, openAccount, openFunded, postgres, readAccount, transferRequest } from "#tests/stack.ts";

/** A trigger stands for a defect, or a resource that ran out: Postgres refuses one transfer in a batch. */
before(() =>
  postgres(2).query(`
    create function public.refuse_poison() returns trigger language plpgsql as $$
      begin if new.memo = 'poison' then raise exception 'poisoned'; end if; return new; end $$;
    create trigger refuse_poison before insert on ledger.transfers for each row execute function public.refuse_poison()`),
);
after(() => postgres(2).query("drop trigger refuse_poison on ledger.transfers; drop function public.refuse_poison()"));

test("a command that Postgres does not take is answered as our fault, spoils no other and writes nothing", async () => {
  const [payer, payee] = [await openFunded(1_000n, {}, 2), await openAccount({}, 2)];
  const transfers = Array.from({ length: 40 }, (_, index) =>
    transferRequest(payer.accountId, payee.accountId, 1n, { memo: index === 17 ? "poison" : "" }),
  );
  const { response } = await call(ledger, ledger.batchCreateTransfers, { transfers });
  const reasons = response.results.map(({ outcome }) =>
    outcome?.$case === "error" ? readDetails(outcome.value).info?.reason : "POSTED",
  );
  assert.deepEqual(
    reasons,
    transfers.map((_, index) => (index === 17 ? "INTERNAL" : "POSTED")),
  );
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 39n);
  // Its key was not used up.
  await postgres(2).query("alter table ledger.transfers disable trigger refuse_poison");
  const poison = transfers[17];
  assert.ok(poison);
  assert.equal((await call(ledger, ledger.createTransfer, poison)).replayed, false);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 40n);
});
