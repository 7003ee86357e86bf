import type { Pool } from "pg";
import { type AlteredEvent, findExchanges } from "#cli/exchanged-events.ts";
import { Interrupted } from "#cli/patience.ts";
import { ageOfFirstEventAfterMs, type LogEnd, readEventPages, readSeals, type Seal } from "#cli/read-log.ts";
import { EMPTY_CHAIN, extendChain, extendChainBy, HASH_BYTES, hashEvent, SEAL_FORMAT } from "#lib/event-chain.ts";
import type { StoredEvent } from "#lib/events.ts";

/**
 * Holds a shard's events against their seals, from the first event on, in bounded memory.
 *
 * Each seal has the hash of each of its events, and the chain's hash after the last of them; so an event that differs from
 * its seal is known by its number. The chain says whether to believe the seal. It can be carried on in two ways: from the
 * hash that is stored in the seal before, and from what was computed over that seal or, where seals are missing, over the
 * events themselves. Where both agree nothing was changed; where only one leads on, it says what was.
 */
export interface Verification {
  readonly end: LogEnd;
  readonly events: bigint;
  readonly seals: bigint;
  /** The chain's hash at `end.sealedTo`, as it is stored. */
  readonly chainHash: Buffer;
  /** For how long the first event without a seal has waited for it; 0 when all are sealed. */
  readonly unsealedForMs: number;
  /** Ordered by number; at most MAX_PROBLEMS of them. */
  readonly problems: readonly AuditProblem[];
  readonly problemCount: number;
}

/** docs/audit.md explains each. */
export type ProblemReason =
  | "EVENT_ALTERED"
  | "EVENTS_SWAPPED"
  | "EVENT_MOVED"
  | "EVENT_MISSING"
  | "EVENT_REPEATED"
  | "EVENT_BEYOND_HEAD"
  | "EVENT_BELOW_ONE"
  | "SEAL_ALTERED"
  | "SEAL_MISSING"
  | "SEAL_OVERLAPS"
  | "SEAL_AND_EVENT_ALTERED"
  | "CHAIN_BROKEN"
  | "ANCHOR_DIFFERS"
  | "ANCHOR_BEYOND_LOG";

export interface AuditProblem {
  readonly reason: ProblemReason;
  /** The events it is about; of EVENTS_SWAPPED and EVENT_MOVED the two. */
  readonly firstNumber: bigint;
  readonly lastNumber: bigint;
  readonly message: string;
}

/** A chain hash that somebody wrote down earlier. */
export interface Anchor {
  readonly shard: number;
  readonly number: bigint;
  readonly chainHash: Buffer;
}

export const MAX_PROBLEMS = 100;

/** One way in which the chain can be carried on. */
interface Strand {
  readonly hash: Buffer;
  readonly from: "stored" | "computed";
}

/** Something that does not fit, and what comes next says what it was. */
type Suspect =
  | { readonly kind: "gap"; readonly first: bigint; readonly last: bigint }
  | { readonly kind: "seal"; readonly seal: Seal };

/**
 * Verifies everything up to `end`.
 * @param onProgress is told the number of events looked at so far, and of all
 * Throws what Postgres throws, and Interrupted.
 */
export async function verifyEvents(
  db: Pool,
  end: LogEnd,
  options: {
    readonly anchors: readonly Anchor[];
    readonly signal: AbortSignal;
    readonly onProgress: (events: bigint, of: bigint) => void;
  },
): Promise<Verification> {
  const { shard, head } = end;
  const log = openLog(db, end, options.signal, options.onProgress);
  const anchors = options.anchors.toSorted((a, b) => (a.number < b.number ? -1 : 1));
  const problems: AuditProblem[] = [];
  const altered: AlteredEvent[] = [];
  let problemCount = 0;
  let seals = 0n;
  let newestChainHash = EMPTY_CHAIN;
  /** The first number that was not looked at. */
  let next = 1n;
  let strands: readonly Strand[] = [{ hash: EMPTY_CHAIN, from: "stored" }];
  let suspect: Suspect | undefined;

  function report(reason: ProblemReason, firstNumber: bigint, lastNumber: bigint, message: string): void {
    problemCount += 1;
    if (problems.length < MAX_PROBLEMS) problems.push({ reason, firstNumber, lastNumber, message });
  }

  /** Whatever stands under a number; the first that fits the hash, else the first. Undefined when there is none. */
  async function takeEvent(number: bigint, hash?: Buffer): Promise<{ event: StoredEvent; hash: Buffer } | undefined> {
    let taken: { event: StoredEvent; hash: Buffer } | undefined;
    for (let event = await log.peek(); event !== undefined && event.number <= number; event = await log.peek()) {
      log.advance();
      if (event.number < number) {
        report("EVENT_BELOW_ONE", event.number, event.number, belowOneMessage(event.number));
        continue;
      }
      const one = { event, hash: hashEvent(shard, event) };
      if (taken === undefined) taken = one;
      else {
        report("EVENT_REPEATED", number, number, `event ${number} is there more than once: one was added afterwards`);
        if (hash?.equals(one.hash) === true) taken = one;
      }
    }
    return taken;
  }

  function reportMissing(first: bigint, last: bigint, sealed: boolean): void {
    const why = sealed ? "sealed before" : `although the log goes on to ${head}`;
    const message = (from: bigint) => `${range(from, last)} ${from === last ? "is" : "are"} missing, ${why}`;
    const before = problems.at(-1);
    // A hole may reach from one seal into the next.
    if (before?.reason === "EVENT_MISSING" && before.lastNumber + 1n === first && before.message.endsWith(why))
      problems[problems.length - 1] = { ...before, lastNumber: last, message: message(before.firstNumber) };
    else report("EVENT_MISSING", first, last, message(first));
  }

  /** Holds the chain against what was written down at a number. */
  function checkAnchors(upTo: bigint, hashesAt: (number: bigint) => readonly Buffer[]): void {
    for (let anchor = anchors[0]; anchor !== undefined && anchor.number <= upTo; anchor = anchors[0]) {
      anchors.shift();
      const found = hashesAt(anchor.number);
      if (found.some((hash) => hash.equals(anchor.chainHash))) continue;
      const [hash] = found;
      const now = hash === undefined ? "cannot be computed, because events are missing" : `is ${hash.toString("hex")}`;
      report(
        "ANCHOR_DIFFERS",
        anchor.number,
        anchor.number,
        `the chain at event ${anchor.number} was ${anchor.chainHash.toString("hex")} when it was written down, and ${now}: ` +
          "events up to there, and their seals, were rewritten since",
      );
    }
  }

  /** Events without a seal, up to `last`; the chain is carried on over the events themselves. */
  async function walkUnsealed(last: bigint): Promise<void> {
    while (next <= last) {
      const found = (await log.peek())?.number;
      const until = found === undefined || found > last ? last + 1n : found;
      if (until > next) {
        reportMissing(next, until - 1n, false);
        strands = [];
        next = until;
        checkAnchors(next - 1n, () => []);
        continue;
      }
      const taken = await takeEvent(next);
      if (taken === undefined) continue;
      strands = strands.map(({ hash }) => ({ hash: extendChain(hash, taken.hash), from: "computed" }));
      checkAnchors(next, () => strands.map(({ hash }) => hash));
      next += 1n;
    }
  }

  async function walkSeal(seal: Seal): Promise<void> {
    const hashes: (Buffer | undefined)[] = [];
    const differing: AlteredEvent[] = [];
    let differingCount = 0;
    for (; next <= seal.last; next += 1n) {
      const sealedHash = sealedHashOf(seal, next);
      const taken = await takeEvent(next, sealedHash);
      hashes.push(taken?.hash);
      if (taken === undefined || taken.hash.equals(sealedHash)) continue;
      differingCount += 1;
      if (differing.length < MAX_PROBLEMS) differing.push({ event: taken.event, sealedHash });
    }
    reportMissingOf(seal, hashes);
    const leadsOver = (bytes: Buffer) => strands.find(({ hash }) => extendChainBy(hash, bytes).equals(seal.chainHash));
    const overEvents = hashes.every((hash) => hash !== undefined) ? Buffer.concat(hashes) : undefined;
    const intact = leadsOver(seal.eventHashes);
    const proved = intact === undefined && overEvents !== undefined ? leadsOver(overEvents) : undefined;
    const leadsOn = intact ?? proved;
    const over = intact === undefined && overEvents !== undefined ? overEvents : seal.eventHashes;
    const trusted = leadsOn === undefined ? undefined : { strand: leadsOn, over };
    checkAnchors(seal.last, (number) => chainsWithin(seal, number, hashes, trusted));

    // When nothing leads from there to here, it is what was before that is to blame.
    const blamedBefore = suspect !== undefined && leadsOn === undefined;
    settle(leadsOn);
    if (proved === undefined) {
      for (const one of differing) noteAltered(one);
      problemCount += differingCount - differing.length;
    } else {
      const [first] = differing;
      const more = differingCount > 1 ? ` and ${differingCount - 1} more` : "";
      report(
        "SEAL_ALTERED",
        seal.first,
        seal.last,
        `the seal of ${range(seal.first, seal.last)} was altered in its hash of event ${first?.event.number}${more}; ` +
          "the chain proves that the events are as they were sealed",
      );
    }
    if (leadsOn !== undefined || blamedBefore || strands.length === 0) {
      strands = [{ hash: seal.chainHash, from: "stored" }];
      return;
    }
    suspect = { kind: "seal", seal };
    strands = [
      { hash: seal.chainHash, from: "stored" },
      ...strands.flatMap(({ hash }): Strand[] => [
        { hash: extendChainBy(hash, seal.eventHashes), from: "computed" },
        ...(overEvents === undefined ? [] : [{ hash: extendChainBy(hash, overEvents), from: "computed" as const }]),
      ]),
    ];
  }

  function reportMissingOf(seal: Seal, hashes: readonly (Buffer | undefined)[]): void {
    for (let index = 0; index < hashes.length; index += 1) {
      if (hashes[index] !== undefined) continue;
      const start = index;
      while (index + 1 < hashes.length && hashes[index + 1] === undefined) index += 1;
      reportMissing(seal.first + BigInt(start), seal.first + BigInt(index), true);
    }
  }

  /** The chain at a number within a seal, in each way in which it may be carried on to there. */
  function chainsWithin(
    seal: Seal,
    number: bigint,
    eventHashes: readonly (Buffer | undefined)[],
    trusted: { readonly strand: Strand; readonly over: Buffer } | undefined,
  ): Buffer[] {
    const bytes = (Number(number - seal.first) + 1) * HASH_BYTES;
    if (trusted !== undefined) return [extendChainBy(trusted.strand.hash, trusted.over.subarray(0, bytes))];
    const found = eventHashes.slice(0, bytes / HASH_BYTES).filter((hash) => hash !== undefined);
    const overSeal = seal.eventHashes.subarray(0, bytes);
    const ways = found.length * HASH_BYTES === bytes ? [overSeal, Buffer.concat(found)] : [overSeal];
    const computed = strands.flatMap(({ hash }) => ways.map((way) => extendChainBy(hash, way)));
    return number === seal.last ? [...computed, seal.chainHash] : computed;
  }

  /** Says what the suspect was, now that it is known what leads on from it. */
  function settle(leadsOn: Strand | undefined): void {
    if (suspect === undefined) return;
    if (suspect.kind === "gap") {
      const { first, last } = suspect;
      const events = `the ${first === last ? `seal of event ${first} is` : `seals of events ${first} to ${last} are`} missing`;
      const known =
        leadsOn === undefined
          ? "and the next seal does not follow from these events: one of them was altered, or is missing"
          : "the next seal proves that these events are as they were";
      report("SEAL_MISSING", first, last, `${events}: ${known}`);
    } else {
      const { first, last } = suspect.seal;
      const seal = `the seal of ${range(first, last)}`;
      if (leadsOn === undefined)
        report(
          "CHAIN_BROKEN",
          first,
          last,
          `the chain breaks at ${seal}: the seal was altered, or an event together with its hash in the seal`,
        );
      else if (leadsOn.from === "computed")
        report(
          "SEAL_ALTERED",
          first,
          last,
          `${seal} was altered in its chain hash; the next seal proves that the events are as they were sealed`,
        );
      else
        report(
          "SEAL_AND_EVENT_ALTERED",
          first,
          last,
          `${seal} was altered in its event hashes, and the next seal proves its chain hash: an event of it was altered with them`,
        );
    }
    suspect = undefined;
  }

  function noteAltered(one: AlteredEvent): void {
    if (altered.length < MAX_PROBLEMS) altered.push(one);
    else problemCount += 1;
  }

  function reportAllAltered(): void {
    const exchanges = findExchanges(shard, altered);
    const explained = new Set<bigint>();
    for (const { kind, at, from } of exchanges) {
      explained.add(at);
      if (kind === "swapped") {
        explained.add(from);
        report("EVENTS_SWAPPED", at, from, `events ${at} and ${from} were swapped`);
      } else report("EVENT_MOVED", at, from, `event ${at} holds what was sealed as event ${from}`);
    }
    for (const { event } of altered) {
      if (explained.has(event.number)) continue;
      report(
        "EVENT_ALTERED",
        event.number,
        event.number,
        `event ${event.number} (${event.type} of ${event.aggregateId}) is not as it was sealed`,
      );
    }
  }

  checkAnchors(0n, () => [EMPTY_CHAIN]);
  for await (const seal of readSeals(db, end.sealedTo)) {
    seals += 1n;
    if (seal.last === end.sealedTo) newestChainHash = seal.chainHash;
    if (!isWhole(seal)) {
      report("SEAL_ALTERED", seal.first, seal.last, `the seal of ${range(seal.first, seal.last)} has no valid form`);
      continue;
    }
    if (seal.first < next) {
      report(
        "SEAL_OVERLAPS",
        seal.first,
        seal.last,
        `the seal of ${range(seal.first, seal.last)} is over events that another seal is over already`,
      );
      continue;
    }
    if (seal.first > next) {
      const gap = { kind: "gap", first: next, last: seal.first - 1n } as const;
      // A seal that does not fit, and then none: nothing can tell any more.
      settle(undefined);
      await walkUnsealed(gap.last);
      suspect = gap;
    }
    await walkSeal(seal);
  }
  settle(undefined);
  if (end.publishedTo > end.sealedTo && end.sealedTo >= end.publishedUnsealedTo)
    report(
      "SEAL_MISSING",
      end.sealedTo + 1n,
      end.publishedTo,
      `the seals of ${range(end.sealedTo + 1n, end.publishedTo)} are missing: these events were published, so they had been sealed`,
    );
  await walkUnsealed(head);
  for (let event = await log.peek(); event !== undefined; event = await log.peek()) {
    log.advance();
    report(
      "EVENT_BEYOND_HEAD",
      event.number,
      event.number,
      `event ${event.number} is beyond the shard's head, ${head}`,
    );
  }
  for (const { number } of anchors)
    report("ANCHOR_BEYOND_LOG", number, number, `event ${number} was written down, and the log ends with ${head}`);
  reportAllAltered();

  return {
    end,
    events: log.taken(),
    seals,
    chainHash: newestChainHash,
    unsealedForMs: end.sealedTo < head ? await ageOfFirstEventAfterMs(db, end.sealedTo) : 0,
    problems: problems.sort((a, b) => (a.firstNumber < b.firstNumber ? -1 : a.firstNumber > b.firstNumber ? 1 : 0)),
    problemCount,
  };
}

/** The log as one row after the other. */
function openLog(
  db: Pool,
  end: LogEnd,
  signal: AbortSignal,
  onProgress: (events: bigint, of: bigint) => void,
): { peek(): Promise<StoredEvent | undefined>; advance(): void; taken(): bigint } {
  const pages = readEventPages(db, end.lastEvent);
  let page: readonly StoredEvent[] = [];
  let index = 0;
  let before = 0n;
  return {
    async peek() {
      if (index < page.length) return page[index];
      if (signal.aborted) throw new Interrupted("Stopped.");
      before += BigInt(page.length);
      onProgress(before, end.lastEvent);
      page = (await pages.next()).value ?? [];
      index = 0;
      return page[0];
    },
    advance: () => {
      index += 1;
    },
    taken: () => before + BigInt(index),
  };
}

function isWhole({ first, last, format, eventHashes, chainHash }: Seal): boolean {
  return (
    format === SEAL_FORMAT &&
    first >= 1n &&
    last >= first &&
    BigInt(eventHashes.length) === (last - first + 1n) * BigInt(HASH_BYTES) &&
    chainHash.length === HASH_BYTES
  );
}

function sealedHashOf(seal: Seal, number: bigint): Buffer {
  const start = Number(number - seal.first) * HASH_BYTES;
  return seal.eventHashes.subarray(start, start + HASH_BYTES);
}

function range(first: bigint, last: bigint): string {
  return first === last ? `event ${first}` : `events ${first} to ${last}`;
}

const belowOneMessage = (number: bigint) => `event ${number} was added: numbers begin with 1`;
