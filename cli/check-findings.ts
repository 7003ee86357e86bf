/** What `ledgermesh check` finds: one outcome per shard and invariant (docs/check.md says what each reason means). */

/** The numbers of design.md. */
export const INVARIANTS = {
  1: "entries sum to zero",
  2: "balances are their entries",
  3: "held is what holds hold",
  4: "shards agree on transfers",
  5: "a key has one effect",
  6: "refunds stay within credits",
  7: "the log tells everything once",
  8: "the hash chain verifies",
} as const;

export type Invariant = keyof typeof INVARIANTS;

/** Something that does not hold. */
export interface Finding {
  /** UPPER_SNAKE; never changes. */
  readonly reason: string;
  /** What it is about: ids and numbers by their names, as the API and the tables show them. */
  readonly ids: Readonly<Record<string, string>>;
  readonly expected: string;
  readonly found: string;
}

export interface Outcome {
  readonly shard: number;
  readonly invariant: Invariant;
  /** How much was looked at, such as {entries: 12, accounts: 3}. */
  readonly checked: Readonly<Record<string, number>>;
  /** The first MAX_FINDINGS of them. */
  readonly findings: readonly Finding[];
  readonly findingCount: number;
  /** What an operator may want to know although nothing is broken. */
  readonly remarks: readonly string[];
  /** Why it could not be checked, or not to the end. */
  readonly impossible: string | undefined;
}

export const MAX_FINDINGS = 20;

/** Gathers what the checks of one invariant on one shard find, in bounded memory. */
export interface Notebook {
  readonly found: (finding: Finding) => void;
  /** Findings of which only the first are told. */
  readonly foundMore: (count: number) => void;
  readonly looked: (what: string, count: number) => void;
  readonly remark: (text: string) => void;
  readonly couldNot: (why: string) => void;
  readonly outcome: () => Outcome;
}

export function openNotebook(shard: number, invariant: Invariant): Notebook {
  const findings: Finding[] = [];
  const checked: Record<string, number> = {};
  const remarks: string[] = [];
  let findingCount = 0;
  let impossible: string | undefined;
  return {
    found(finding) {
      findingCount += 1;
      if (findings.length < MAX_FINDINGS) findings.push(finding);
    },
    foundMore(count) {
      findingCount += count;
    },
    looked(what, count) {
      checked[what] = (checked[what] ?? 0) + count;
    },
    remark: (text) => remarks.push(text),
    couldNot(why) {
      impossible ??= why;
    },
    outcome: () => ({ shard, invariant, checked, findings, findingCount, remarks, impossible }),
  };
}
