import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import type { SingleCommand } from "#services/ledger/command.ts";
import { setAccountStatus } from "#services/ledger/evaluate-account-status.ts";
import { abortTransfer, closeDecision } from "#services/ledger/evaluate-decision.ts";
import { evaluateCreateHold, evaluateExpireHold, evaluateVoidHold } from "#services/ledger/evaluate-hold.ts";
import { postLegs, prepareLegs, releaseLegs } from "#services/ledger/evaluate-legs.ts";
import { createQuote } from "#services/ledger/evaluate-quote.ts";
import { setRates } from "#services/ledger/evaluate-rates.ts";
import { closeRefunds, noteReversed } from "#services/ledger/evaluate-reversal.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";

/** Decides a command against the locked rows, and changes them when it is carried out. Pure: no clock, no database. */
export function evaluateCommand(command: SingleCommand, batch: Batch): Evaluation {
  switch (command.kind) {
    case "transfer":
      return evaluateTransfer(command, batch);
    case "prepare_legs":
      return prepareLegs(command, batch);
    case "post_legs":
      return postLegs(command, batch);
    case "release_legs":
      return releaseLegs(command, batch);
    case "abort_transfer":
      return abortTransfer(command, batch);
    case "close_decision":
      return closeDecision(command, batch);
    case "set_account_status":
      return setAccountStatus(command, batch);
    case "set_rates":
      return setRates(command, batch);
    case "create_quote":
      return createQuote(command, batch);
    case "create_hold":
      return evaluateCreateHold(command, batch);
    case "void_hold":
      return evaluateVoidHold(command, batch);
    case "expire_hold":
      return evaluateExpireHold(command, batch);
    case "note_reversed":
      return noteReversed(command, batch);
    case "close_refunds":
      return closeRefunds(command, batch);
  }
}
