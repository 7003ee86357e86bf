/** Steps of the protocols, each broken in one way: torture must notice (docs/torture.md says what did). */
export interface Mutation {
  readonly name: string;
  /** What is broken by it. */
  readonly what: string;
  readonly edits: readonly Edit[];
}

export interface Edit {
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly from: string;
  readonly to: string;
}

const LEDGER = "services/ledger";

export const mutations: readonly Mutation[] = [
  {
    name: "post-twice",
    what: "Legs are posted again when they are posted already, and their room is given back once.",
    edits: [
      {
        file: `${LEDGER}/evaluate-legs.ts`,
        from: `  if (first.state === "POSTED") return { kind: "done", answer, event: first.event };\n`,
        to: "",
      },
      {
        file: `${LEDGER}/evaluate-legs.ts`,
        from: `    unreserve(posting, batch);\n    // The room was kept`,
        to: `    if (leg.state === "PREPARED") unreserve(posting, batch);\n    // The room was kept`,
      },
    ],
  },
  {
    name: "credit-twice",
    what: "A leg is entered twice when it is posted.",
    edits: [
      {
        file: `${LEDGER}/evaluate-legs.ts`,
        from: `    const refusal = enterPosting(posting, batch.accounts, entries);`,
        to: `    enterPosting(posting, batch.accounts, entries);\n    const refusal = enterPosting(posting, batch.accounts, entries);`,
      },
    ],
  },
  {
    name: "release-although-committed",
    what: "Recovery releases legs whose transfer is committed.",
    edits: [
      {
        file: `${LEDGER}/recover.ts`,
        from: "  const step = committed ? ",
        to: "  const step = committed && part.legs.length > 100 ? ",
      },
    ],
  },
  {
    name: "post-without-asking",
    what: "Recovery posts legs without a decision of the payer's shard.",
    edits: [
      {
        file: `${LEDGER}/recover.ts`,
        from: "  const step = committed ? ",
        to: "  const step = committed || part.legs.length > 0 ? ",
      },
    ],
  },
  {
    name: "decide-despite-tombstone",
    what: "A decision is made although recovery has decided against the transfer.",
    edits: [
      {
        file: `${LEDGER}/evaluate-transfer.ts`,
        from: "if (command.crossShard && batch.decisions.get(command.transferId) !== undefined)",
        to: "if (command.crossShard && command.transferId === '')",
      },
      {
        file: `${LEDGER}/write-decisions.sql`,
        from: "   where n.is_new;\n",
        to: "   where n.is_new\n  on conflict (transfer_id) do update set state = excluded.state;\n",
      },
    ],
  },
  {
    name: "abort-without-tombstone",
    what: "Recovery takes a transfer that is not decided for aborted, and does not write it down.",
    edits: [
      {
        file: `${LEDGER}/evaluate-decision.ts`,
        from: `    batch.decisions.set(transferId, { transferUuid, bucket, state: "ABORTED", row: "new" });`,
        to: `    batch.decisions.set(transferId, { transferUuid, bucket, state: "ABORTED", row: "unchanged" });`,
      },
    ],
  },
  {
    name: "release-when-unknown",
    what: "A decision whose outcome is not known in time is taken for refused: its legs are released.",
    edits: [
      {
        file: `${LEDGER}/cross-shard.ts`,
        from: `  if (outcome.kind === "unknown") return made(NOTHING_ELSEWHERE);`,
        to: `  if (outcome.kind === "unknown") release(command.transferId, remotes);`,
      },
    ],
  },
  {
    name: "close-before-posting",
    what: "A decision is closed without waiting for the legs.",
    edits: [
      {
        file: `${LEDGER}/cross-shard.ts`,
        from: "  let allPosted = true;\n",
        to: "  let allPosted = true;\n  void submit(payer, closeCommand(transferId), PROTOCOL_LANE, performance.now() + COMMAND_TIMEOUT_MS);\n",
      },
    ],
  },
  {
    name: "room-not-reserved",
    what: "A prepared leg keeps no room on its account.",
    edits: [
      {
        file: `${LEDGER}/evaluate-legs.ts`,
        from: "    account.preparedCreditMinorUnits += credit;\n",
        to: "",
      },
      {
        file: `${LEDGER}/evaluate-legs.ts`,
        from: "  credited.preparedCreditMinorUnits -= amountMinorUnits;\n",
        to: "",
      },
    ],
  },
  {
    name: "keys-not-claimed",
    what: "A command whose idempotency key is taken is carried out all the same.",
    edits: [
      {
        file: `${LEDGER}/lock-batch.ts`,
        from: "  return new Set(rows.map(([text]) => text));",
        to: "  return new Set([...rows.map(([text]) => text), ...keys.map(({ text }) => text)]);",
      },
      {
        file: `${LEDGER}/claim-free-keys.sql`,
        from: "  if claimed <> cardinality(keys) then perform ledger.refuse_assumption('a key was used before'); end if;\n",
        to: "",
      },
    ],
  },
  {
    name: "other-body-replayed",
    what: "Another body under a used key gets the first one's answer.",
    edits: [
      {
        file: `${LEDGER}/decide-batch.ts`,
        from: "  if (!known.fingerprint.equals(key.fingerprint)) return refused(reused(key, known));",
        to: `  if (!known.fingerprint.equals(key.fingerprint) && key.key === "") return refused(reused(key, known));`,
      },
    ],
  },
  {
    name: "lost-commit-is-nothing",
    what: "A commit whose answer is lost is answered as if nothing had happened.",
    edits: [
      {
        file: `${LEDGER}/write-batch.ts`,
        from: `    connection.discard(db);\n    return { kind: "commit_lost" };`,
        to: `    connection.discard(db);\n    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };`,
      },
      {
        file: `${LEDGER}/optimistic-batch.ts`,
        from: `connection.discard(db);\n  return { kind: "commit_lost" };`,
        to: `connection.discard(db);\n  return { kind: "committed", outcomes: commands.map(() => ({ kind: "refused", refusal: refusals.shardUnavailable(shard.number), replayed: false })) };`,
      },
      {
        file: `${LEDGER}/optimistic-batch.ts`,
        from: `import { isConnectionLost } from`,
        to: `import { refusals } from "#services/ledger/refusals.ts";\nimport { isConnectionLost } from`,
      },
    ],
  },
  {
    name: "lost-commit-is-done",
    what: "A commit whose answer is lost is answered as done.",
    edits: [
      {
        file: `${LEDGER}/write-batch.ts`,
        from: `    connection.discard(db);\n    return { kind: "commit_lost" };`,
        to: `    connection.discard(db);\n    return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, 0n)) };`,
      },
      {
        file: `${LEDGER}/optimistic-batch.ts`,
        from: `connection.discard(db);\n  return { kind: "commit_lost" };`,
        to: `connection.discard(db);\n  return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, 0n)) };`,
      },
    ],
  },
  {
    name: "not-durable",
    what: "Postgres acknowledges commits that are not on the disk.",
    edits: [{ file: "infra/local/postgresql.conf", from: "synchronous_commit = on", to: "synchronous_commit = off" }],
  },
  {
    name: "balances-not-locked",
    what: "Accounts are read without their lock.",
    edits: [
      {
        file: `${LEDGER}/lock-accounts.sql`,
        from: " order by account_id for no key update",
        to: " order by account_id",
      },
    ],
  },
  {
    name: "assumptions-not-checked",
    what: "A batch that was decided on what is known of its accounts is written whatever has become of them.",
    edits: [
      {
        file: `${LEDGER}/post-transfers.sql`,
        from: "     and (n.version_before is null\n",
        to: "     and (true\n",
      },
    ],
  },
  {
    name: "refusal-not-remembered",
    what: "A refused command's key is given back.",
    edits: [
      {
        file: `${LEDGER}/decide-batch.ts`,
        from: `  if (evaluation.kind === "refused") refusedKeys.push({ key, ...evaluation });`,
        to: `  if (evaluation.kind === "refused") refusedKeys.push({ key, ...evaluation, remembered: false });`,
      },
    ],
  },
  {
    name: "decide-before-prepared",
    what: "The payer's shard decides without waiting for the other shards.",
    edits: [
      {
        file: `${LEDGER}/make-transfer.ts`,
        from: "  return submitTransfer(ctx, prepared, await prepareElsewhere(prepared));",
        to: "  void prepareElsewhere(prepared);\n  return submitTransfer(ctx, prepared, undefined);",
      },
    ],
  },
  {
    name: "no-recovery",
    what: "Nobody takes up what was left half way.",
    edits: [{ file: `${LEDGER}/main.ts`, from: "recover(ctx, stopping.signal)", to: "Promise.resolve(recover)" }],
  },
  {
    name: "cursor-before-acknowledgement",
    what: "The relay moves its cursor before JetStream has the events.",
    edits: [
      {
        file: "services/relay/relay-shard.ts",
        from: "        await Promise.all([publishAll(",
        to: "        await sealer.seal(events);\n        await moveCursor(db, eventLog, shard, cursor, last.number, sealer.sealedTo());\n        await Promise.all([publishAll(",
      },
      {
        file: "services/relay/relay-shard.ts",
        from: "shard, chunks, signal), sealer.seal(events)]);",
        to: "shard, chunks, signal)]);",
      },
      {
        file: "services/relay/relay-shard.ts",
        from: "        if (signal.aborted) return;\n        await moveCursor(db, eventLog, shard, cursor, last.number, sealer.sealedTo());\n",
        to: "",
      },
    ],
  },
  {
    name: "event-number-skipped",
    what: "A batch without events takes a number of the log.",
    edits: [
      {
        file: `${LEDGER}/post-transfers.sql`,
        from: "     set sequence = sequence + event_count,",
        to: "     set sequence = sequence + greatest(1, event_count),",
      },
    ],
  },
];
