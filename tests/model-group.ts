import assert from "node:assert/strict";
import type { CreateTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  assertAnswered,
  assertRefused,
  comparable,
  enter,
  FAILED_PRECONDITION,
  isMalformedTransfer,
  judgeReplay,
  type KnownLeg,
  type Model,
  NO_LINKS,
  type Observed,
  refusalsOfTransfer,
  resolve,
  scopeOfTransfer,
  shardOfTransfer,
  toText,
  transferAnswer,
} from "#tests/model.ts";

/**
 * Groups of a batch, in the model: the rules of one transfer with the postings of all members, whose keys belong to the bucket
 * of the first debit account. Which member is told the reason the contract leaves open; the others get GROUP_REFUSED.
 */
export function judgeGroup(
  model: Model,
  members: readonly CreateTransferRequest[],
  observed: readonly Observed[],
): void {
  assert.equal(observed.length, members.length, "one result for each member");
  const [first] = members as [CreateTransferRequest];
  const scope = scopeOfTransfer(model, first);
  const keys = members.map(({ idempotencyKey }) => ["createTransfer", scope, idempotencyKey].join(" "));
  const body = toText({ members });
  const malformed = members.map((member) => {
    if (member.idempotencyKey === "") return ["IDEMPOTENCY_KEY_REQUIRED"];
    return isMalformedTransfer(model, { ...member, group: "" }) ? ["MALFORMED_REQUEST"] : [];
  });
  if (malformed.some((why) => why.length > 0)) {
    refuseAll(observed, malformed);
    return;
  }
  const known = keys.map((key) => model.keys.get(key));
  if (known.every((one, at) => one?.body === bodyAt(body, at))) {
    for (const [at, one] of known.entries()) if (one !== undefined) judgeReplay(one, observed[at] as Observed);
    return;
  }
  if (known.some((one) => one !== undefined)) {
    refuseAll(
      observed,
      known.map((one) => (one === undefined ? [] : ["IDEMPOTENCY_KEY_REUSED"])),
    );
    return;
  }
  const legs = members.map(({ postings }) => postings.map((posting) => resolve(model, posting)));
  const why = refusalsOfTransfer(legs.flat(), shardOfTransfer(model, first));
  if (why.length === 0) makeAll(model, members, legs as KnownLeg[][], observed, keys, body);
  else {
    const reasons = refuseAll(
      observed,
      members.map(() => why),
    );
    // The reason of the one is remembered for all, if it is a rule of the business.
    if (reasons === undefined) return;
    for (const [at, key] of keys.entries()) {
      model.keys.set(key, { body: bodyAt(body, at), outcome: { refused: [reasons[at] ?? ""] } });
    }
  }
}

/** Each member's key stands for its place too. */
function bodyAt(body: string, at: number): string {
  return `${at} of ${body}`;
}

/** Answers the reasons when they are remembered. */
function refuseAll(observed: readonly Observed[], why: readonly (readonly string[])[]): string[] | undefined {
  const refused = observed.map((one, at) => assertRefused(one, [...(why[at] ?? []), "GROUP_REFUSED"], false));
  const own = refused.filter(({ reason }) => reason !== "GROUP_REFUSED");
  assert.ok(own.length > 0, "one member has a reason of its own");
  const isRemembered = own.every(({ code }) => code === FAILED_PRECONDITION);
  return isRemembered ? refused.map(({ reason }) => reason) : undefined;
}

function makeAll(
  model: Model,
  members: readonly CreateTransferRequest[],
  legs: readonly KnownLeg[][],
  observed: readonly Observed[],
  keys: readonly string[],
  body: string,
): void {
  const home = legs[0]?.[0]?.debit;
  for (const [at, { type, memo, metadata, effectiveTime }] of members.entries()) {
    const answer = assertAnswered(observed[at] as Observed, false) as Transfer;
    const texts = { type: type || "transfer", memo, metadata, effectiveTime, links: NO_LINKS };
    const transfer = enter(model, legs[at] ?? [], texts, answer, home);
    model.keys.set(keys[at] ?? "", { body: bodyAt(body, at), outcome: { made: { kind: "transfer", transfer } } });
    assert.deepEqual(comparable(answer), transferAnswer(transfer), `member ${at} of the group`);
  }
}
