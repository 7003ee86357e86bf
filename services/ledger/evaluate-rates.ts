import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { SetRatesCommand } from "#services/ledger/command.ts";
import { encodeRatesSet } from "#services/ledger/encode-exchange.ts";
import { MAX_RATE_AHEAD_MS } from "#services/ledger/rate.ts";
import { refusals } from "#services/ledger/refusals.ts";

/** Adds rates, whether they will count or a later one is there already: the next reader finds out. All of them, or none. */
export function setRates({ key, rates }: SetRatesCommand, batch: Batch): Evaluation {
  for (const [index, { asOfMs }] of rates.entries()) {
    if (asOfMs > batch.nowMs + MAX_RATE_AHEAD_MS) {
      const refusal = refusals.rateInFuture(index, new Date(asOfMs), new Date(batch.nowMs));
      return { kind: "refused", refusal, remembered: true };
    }
  }
  for (const rate of rates) batch.newRates.push({ ...rate, setBy: key.caller });
  const event = addEvent(batch, {
    bucket: key.bucket,
    aggregateId: "rates",
    aggregateVersion: 1n,
    type: "rates_set",
    payload: encodeRatesSet(rates),
  });
  return { kind: "done", answer: { kind: "none" }, event };
}
