import { idToUuid, parseId, uuidToId } from "#lib/ids.ts";
import { postgres, shardNumbers } from "#tests/stack.ts";
import { type Command, type Finding, type History, isFinal } from "#tests/torture/history.ts";
import { type ExpectedPosting, groupOf, makesTransfer } from "#tests/torture/orders.ts";
import { shardOfId } from "#tests/torture/shard-of-id.ts";

/**
 * Holds what the clients were told against what the shards have, while nothing is under way:
 *
 *   acknowledged   exactly once: one key, one transfer with the content asked for, its entries on every shard and no other;
 *                  an acknowledged balance is one that the account had
 *   refused        the key remembers it, and nothing else is there
 *   not done       nothing is there
 *   unknown        there wholly, or not at all
 *
 * And nothing is there that nobody asked for: every transfer, entry and balance is accounted for by a command.
 */
export interface Verdict {
  readonly findings: readonly Finding[];
  /** Commands whose client does not know, by what became of them. */
  readonly unknownMade: number;
  readonly unknownNotMade: number;
}

export interface Verifier {
  /** Checks all commands of the history that it has not checked before, and everything that is on the shards. */
  readonly verify: (history: History) => Promise<Verdict>;
}

const COMMANDS_PER_QUERY = 5_000;
const MAX_IDS_PER_FINDING = 10;

interface KeyRow {
  readonly key: string;
  readonly resource_id: string;
  readonly reason: string | null;
}

interface TransferRow {
  readonly transfer_id: string;
  readonly shard: number;
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly postings: readonly [debit: string, credit: string, amount: string, currency: string][];
}

interface EntryRow {
  readonly transfer_id: string;
  readonly account_id: string;
  readonly sequence: string;
  readonly posting_index: number;
  readonly amount: string;
  readonly balance_after: string;
  readonly currency: string;
  readonly counterparty: string;
  readonly shard: number;
}

export function openVerifier(): Verifier {
  /** Of all commands so far: what must be there in the end. */
  const balances = new Map<string, bigint>();
  const transfers = new Set<string>();
  const entriesOf = new Map<number, number>(shardNumbers.map((shard) => [shard, 0]));
  /** Whether the members of a group are there, by its name. */
  const groups = new Map<string, boolean>();
  const findings = new Map<string, string[]>();

  const find = (what: string, id: string) => {
    const ids = findings.get(what);
    if (ids === undefined) findings.set(what, [id]);
    else if (ids.length < MAX_IDS_PER_FINDING) ids.push(id);
  };

  async function verifyCommands(commands: readonly Command[], transit: ReadonlyMap<string, string>): Promise<Verdict> {
    const keys = Map.groupBy(await readKeys(commands), ({ key }) => key);
    const rows = await readTransfers([...keys.values()].flat());
    const transferOf = Map.groupBy(rows, ({ transfer_id }) => transfer_id);
    const resources = [...keys.values()].flat().map(({ resource_id }) => resource_id);
    const entries = Map.groupBy(await readEntries(resources), ({ transfer_id }) => transfer_id);
    let [unknownMade, unknownNotMade] = [0, 0];
    for (const command of commands) {
      const found = keys.get(command.key) ?? [];
      if (found.length > 1) find("a key has several effects", command.key);
      const [row] = found;
      const transfer = row === undefined ? undefined : transferOf.get(row.resource_id)?.[0];
      const isKnown = checkAnswers(command, row, transfer);
      const group = groupOf(command.order);
      if (group !== "" && (groups.get(group) ?? transfer !== undefined) !== (transfer !== undefined)) {
        find("a group is there in part", `${group} ${command.key}`);
      }
      groups.set(group, transfer !== undefined);
      if (transfer === undefined) {
        if (row !== undefined && entries.has(row.resource_id)) find("entries without a transfer", row.resource_id);
        if (!isKnown) unknownNotMade += 1;
        continue;
      }
      if (!isKnown) unknownMade += 1;
      transfers.add(transfer.transfer_id);
      checkContent(command, transfer);
      checkEntries(transfer, entries.get(transfer.transfer_id) ?? [], transit);
      checkBalances(command, entries.get(transfer.transfer_id) ?? []);
    }
    return { findings: [], unknownMade, unknownNotMade };
  }

  /** Whether what is there is what the client was told; answers whether it was told anything. */
  function checkAnswers(command: Command, row: KeyRow | undefined, transfer: TransferRow | undefined): boolean {
    const { key, attempts } = command;
    const answers = attempts.map(({ answer }) => answer);
    const final = answers.filter(isFinal);
    const changed = final.some(({ kind }) => kind === "changed");
    const posted = final.filter(({ kind }) => kind === "posted") as Extract<
      (typeof final)[number],
      { kind: "posted" }
    >[];
    const ids = new Set(posted.map(({ transferId }) => transferId));
    for (const answer of answers) {
      if (answer.kind === "defect") find(`answered INTERNAL: ${answer.reason}`, key);
    }
    if (ids.size > 1) find("acknowledged as several transfers", key);
    if (final.filter(({ replayed }) => !replayed).length > 1) find("made anew more than once, by the answers", key);
    // Who is told that it was made before was told so of a call that somebody made.
    if (
      final.length > 0 &&
      final.every(({ replayed }) => replayed) &&
      !answers.some(({ kind }) => kind === "unknown")
    ) {
      find("replayed, and no call can have made it", key);
    }
    const refused = final.find(({ kind }) => kind === "refused");
    if (refused?.kind === "refused") {
      if (posted.length > 0 || changed) find("acknowledged and refused", key);
      if (transfer !== undefined) find("refused, and the transfer is there", key);
      if (row?.reason !== refused.reason) find("refused, and the key does not remember it", key);
      return true;
    }
    if (changed) {
      if (row === undefined || row.reason !== null) find("acknowledged, and the key does not say so", key);
      return true;
    }
    const [id] = ids;
    if (id !== undefined) {
      if (transfer === undefined) find("acknowledged, and not there", `${key} ${id}`);
      else if (transfer.transfer_id !== idToUuid(id))
        find("acknowledged, and another transfer is there", `${key} ${id}`);
      return true;
    }
    const nothing = answers.length > 0 && answers.every(({ kind }) => kind === "not_done" || kind === "rejected");
    if (nothing && row !== undefined) find("said to have changed nothing, and there is something", key);
    if (makesTransfer(command.order) && row !== undefined && transfer === undefined && row.reason === null)
      find("a key without an effect", key);
    return nothing;
  }

  function checkContent({ key, order }: Command, transfer: TransferRow): void {
    const { postings } = transfer;
    const created = order.rpc === "createTransfer" ? order.request : undefined;
    const expected: readonly ExpectedPosting[] = order.expects ?? created?.postings ?? [];
    const isOpenEnded = order.rpc === "createConversion";
    const same =
      (transfer.state === "POSTED" || transfer.state === "REVERSED") &&
      (created === undefined || transfer.type === (created.type === "" ? "transfer" : created.type)) &&
      (created === undefined || transfer.memo === created.memo) &&
      (isOpenEnded ? postings.length >= expected.length : postings.length === expected.length) &&
      expected.every(({ debitAccountId, creditAccountId, amountMinorUnits, currency }, index) => {
        const [debit, credit, amount, unit] = postings[index] as TransferRow["postings"][number];
        return (
          isAccount(debitAccountId, debit) &&
          isAccount(creditAccountId, credit) &&
          (amountMinorUnits === undefined || amount === amountMinorUnits.toString()) &&
          unit === currency
        );
      });
    if (!same) find("the transfer is not what was asked for", `${key} ${uuidToId("xfer", transfer.transfer_id)}`);
    if (transfer.shard !== shardOfId(postings[0]?.[0] ?? ""))
      find("a transfer on a shard that is not the payer's", key);
  }

  /** Exactly the entries that the postings ask for, on every shard; and adds them to what must be there in the end. */
  function checkEntries(transfer: TransferRow, entries: readonly EntryRow[], transit: ReadonlyMap<string, string>) {
    const expected: string[] = [];
    for (const [index, [debit, credit, amount, currency]] of transfer.postings.entries()) {
      const line = (shard: number, account: string, change: bigint, counterparty: string) => {
        expected.push([shard, account, index, change, currency, counterparty].join(" "));
        balances.set(account, (balances.get(account) ?? 0n) + change);
        entriesOf.set(shard, (entriesOf.get(shard) ?? 0) + 1);
      };
      const [from, to, moved] = [shardOfId(debit), shardOfId(credit), BigInt(amount)];
      line(from, debit, -moved, credit);
      if (from !== to) {
        line(from, transit.get(`${from} ${currency}`) ?? "no transit account", moved, debit);
        line(to, transit.get(`${to} ${currency}`) ?? "no transit account", -moved, credit);
      }
      line(to, credit, moved, debit);
    }
    const actual = entries.map(({ shard, account_id, posting_index, amount, currency, counterparty }) =>
      [shard, uuidToId("acct", account_id), posting_index, amount, currency, uuidToId("acct", counterparty)].join(" "),
    );
    const [want, have] = [expected, actual].map((lines) => lines.sort(byText)) as [string[], string[]];
    if (want.length !== have.length || want.some((text, index) => text !== have[index])) {
      find("the entries are not those of the transfer", uuidToId("xfer", transfer.transfer_id));
    }
  }

  /** What was acknowledged is what the account had after its last entry of the transfer. */
  function checkBalances({ key, attempts }: Command, entries: readonly EntryRow[]): void {
    const after = new Map<string, EntryRow>();
    for (const entry of entries) {
      const id = uuidToId("acct", entry.account_id);
      const last = after.get(id);
      if (last === undefined || BigInt(last.sequence) < BigInt(entry.sequence)) after.set(id, entry);
    }
    for (const { answer } of attempts) {
      if (answer.kind !== "posted") continue;
      for (const { accountId, postedMinorUnits } of answer.balances) {
        if (after.get(accountId)?.balance_after !== postedMinorUnits.toString()) {
          find("a balance was acknowledged that the account never had", `${key} ${accountId}`);
        }
      }
    }
  }

  /** Everything on the shards is accounted for. */
  async function verifyTotals(): Promise<void> {
    for (const shard of shardNumbers) {
      const { rows: made } = await postgres(shard).query<{ id: string }>(
        "select transfer_id as id from ledger.transfers",
      );
      for (const { id } of made) if (!transfers.has(id)) find("a transfer that nobody asked for", uuidToId("xfer", id));
      const { rows } = await postgres(shard).query<{ count: string }>("select count(*) from ledger.entries");
      if (Number(rows[0]?.count) !== entriesOf.get(shard)) {
        find(
          "the number of entries is not that of the transfers",
          `shard ${shard}: ${rows[0]?.count}, not ${entriesOf.get(shard)}`,
        );
      }
      const { rows: accounts } = await postgres(shard).query<{ id: string; posted: string }>(
        "select account_id as id, posted_minor_units::text as posted from ledger.accounts",
      );
      for (const { id, posted } of accounts) {
        const account = uuidToId("acct", id);
        const expected = balances.get(account) ?? 0n;
        if (BigInt(posted) !== expected)
          find("a balance is not the sum of what was made", `${account} ${posted}, not ${expected}`);
      }
    }
  }

  return {
    async verify(history) {
      const transit = await transitAccounts();
      const commands = history.commands();
      let [unknownMade, unknownNotMade] = [0, 0];
      for (let from = 0; from < commands.length; from += COMMANDS_PER_QUERY) {
        const part = await verifyCommands(commands.slice(from, from + COMMANDS_PER_QUERY), transit);
        unknownMade += part.unknownMade;
        unknownNotMade += part.unknownNotMade;
      }
      await verifyTotals();
      return { findings: [...findings].map(([what, ids]) => ({ what, ids })), unknownMade, unknownNotMade };
    },
  };
}

const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** Whether an account of a request, which may be `system:NAME`, is this one. */
function isAccount(asked: string, made: string): boolean {
  return asked.startsWith("system:") ? parseId(made, "acct") !== undefined : asked === made;
}

/** By `SHARD CURRENCY`. */
async function transitAccounts(): Promise<ReadonlyMap<string, string>> {
  const found = await onShards<{ account_id: string; currency: string }>(
    "select account_id, currency from ledger.accounts where reference = 'system:transit'",
    [],
  );
  return new Map(
    found.map(({ shard, currency, account_id }) => [`${shard} ${currency}`, uuidToId("acct", account_id)]),
  );
}

function readKeys(commands: readonly Command[]): Promise<KeyRow[]> {
  return onShards(
    "select key, resource_id, refusal ->> 'reason' as reason from ledger.idempotency_keys where key = any ($1)",
    [commands.map(({ key }) => key)],
  );
}

function readTransfers(keys: readonly KeyRow[]): Promise<TransferRow[]> {
  return onShards(
    "select transfer_id, state, type, memo, postings from ledger.transfers where transfer_id = any ($1)",
    [keys.map(({ resource_id }) => resource_id)],
  );
}

function readEntries(transferUuids: readonly string[]): Promise<EntryRow[]> {
  return onShards(
    `select transfer_id, account_id, sequence::text, posting_index, amount_minor_units::text as amount,
            balance_after_minor_units::text as balance_after, currency, counterparty_account_id as counterparty
       from ledger.entries where transfer_id = any ($1)`,
    [transferUuids],
  );
}

/** The rows of all shards. */
async function onShards<Row extends object>(
  text: string,
  values: readonly unknown[],
): Promise<(Row & { readonly shard: number })[]> {
  const results = await Promise.all(
    shardNumbers.map(async (shard) => {
      const { rows } = await postgres(shard).query<Row>(text, [...values]);
      return rows.map((row) => ({ ...row, shard }));
    }),
  );
  return results.flat();
}
