import { randomBytes } from "node:crypto";
import { forEachBounded } from "#cli/bounded.ts";
import { type Economy, finalBalances, makeEconomy, type Party, type Payment, type Town } from "#cli/economy.ts";
import { connectLedger, type Ledger, type OpenedAccount } from "#cli/ledger.ts";
import { postInOrder } from "#cli/post-in-order.ts";
import { formatCount, type Screen, startProgress, waitingWords } from "#cli/progress.ts";
import { type Resident, signUp } from "#cli/resident.ts";
import { FIRST_PINNED_BUCKET, idGenerator, parseId } from "#lib/ids.ts";
import {
  Account_Kind,
  CreateAccountRequest,
  CreateTransferRequest,
  type Entry,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Sends a made-up economy through the ledger, and reads every balance back. */
export interface DemoOptions {
  readonly seed: number;
  readonly people: number;
  readonly days: number;
  /** host:port */
  readonly ledger: string;
  /** The REST base URL: for signing up. Without a gateway nobody is a user, and all else is the same. */
  readonly gateway: string;
  readonly nowMs: number;
  readonly signal: AbortSignal;
  readonly screen: Screen;
}

export interface DemoResult {
  /** New for every run, so that the demo can be repeated. */
  readonly run: string;
  readonly economy: Economy;
  /** Payments that the ledger did not take, and balances that are not as they have to be: none, one hopes. */
  readonly faults: readonly string[];
  /** Of everybody, system accounts included, as read back. */
  readonly balances: readonly DemoBalance[];
  /** The account to look at, with its newest entries, newest first. */
  readonly example: {
    readonly party: Party;
    readonly town: Town;
    readonly accountId: string;
    readonly resident: Resident | undefined;
  };
  readonly entries: readonly Entry[];
  /** For people, by account id. */
  readonly names: ReadonlyMap<string, string>;
  /** For `x-read-after`. */
  readonly position: string;
}

export interface DemoBalance {
  readonly name: string;
  readonly currency: string;
  readonly shard: number;
  readonly balanceMinorUnits: bigint;
}

const CALLS_AT_ONCE = 64;
const READS_AT_ONCE = 32;
export const ENTRIES_SHOWN = 15;
const RUN_BYTES = 4;
const DAY_MS = 86_400_000;
/** The clock of the ledger's Postgres may be behind ours, and effective times may not lie in its future. */
const CLOCK_MARGIN_MS = 60_000;

interface DemoAccount extends OpenedAccount {
  /** Of the economy: `TOWN/NAME`, or `system:NAME CURRENCY`. */
  readonly id: string;
}

/** Throws a Problem when there is no ledger; GaveUp or Interrupted when it ended early. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const { seed, people, days, screen, signal } = options;
  const run = randomBytes(RUN_BYTES).toString("hex");
  // Whole days, up to the last midnight.
  const endMs = Math.floor((options.nowMs - CLOCK_MARGIN_MS) / DAY_MS) * DAY_MS;
  const economy = makeEconomy({ seed, people, days, endMs });
  const { towns, payments } = economy;
  const parties = towns.reduce((sum, town) => sum + town.parties.length, 0);
  screen.write(
    `Seed ${seed}, run ${run}: ${formatCount(parties)} accounts in ${towns.length} towns ` +
      `(${towns.map(({ name, currency }) => `${name} ${currency}`).join(", ")}), ` +
      `${formatCount(payments.length)} payments over ${days} days.\n`,
  );
  const ledger = await connectLedger(options.ledger, signal, waitingWords(screen));
  try {
    const residents = await signUpResidents(options.gateway, run, towns, signal, screen);
    const accounts = await openParties(ledger, run, towns, residents, screen);
    const faults = await postPayments(ledger, run, payments, accounts, screen);
    const balances = await readBalances(ledger, economy, accounts, faults, screen);
    const example = chooseExample(towns, accounts, residents);
    const names = new Map([...accounts.values()].map(({ accountId, id }) => [accountId, nameOf(id)]));
    const entries = await ledger.readEntries(example.accountId, ENTRIES_SHOWN);
    return { run, economy, faults, balances, example, entries, names, position: ledger.position() };
  } finally {
    ledger.close();
  }
}

/** One of each town, the first one, is a user and can sign in; by town. */
async function signUpResidents(
  gateway: string,
  run: string,
  towns: readonly Town[],
  signal: AbortSignal,
  screen: Screen,
): Promise<Map<Town, Resident>> {
  const residents = new Map<Town, Resident>();
  for (const town of towns) {
    const party = town.parties[0];
    const resident = party && (await signUp(gateway, run, `${party.name} ${town.name}`, signal));
    if (resident === undefined) return new Map();
    residents.set(town, resident);
  }
  screen.write(`Signed up: ${[...residents.values()].map(({ email }) => email).join(", ")}.\n`);
  return residents;
}

function bucketOf(resident: Resident | undefined): number | undefined {
  return resident && parseId(resident.userId, "user")?.bucket;
}

/** By their ids in the economy. */
async function openParties(
  ledger: Ledger,
  run: string,
  towns: readonly Town[],
  residents: ReadonlyMap<Town, Resident>,
  screen: Screen,
): Promise<Map<string, DemoAccount>> {
  const newId = idGenerator(Date.now);
  const opened = new Map<string, DemoAccount>();
  const everybody = towns.flatMap((town, index) => town.parties.map((party) => ({ town, party, index })));
  const progress = startProgress(screen, "Accounts", everybody.length);
  await forEachBounded(everybody, CALLS_AT_ONCE, async ({ town, party, index }) => {
    // All of a town are in one bucket: in that of its user, which follows from the e-mail address. Where nobody is a user,
    // the towns are spread over all buckets, so that every shard has one.
    const resident = residents.get(town);
    const bucket = bucketOf(resident) ?? Math.floor(((index + 0.5) * FIRST_PINNED_BUCKET) / towns.length);
    const request = CreateAccountRequest.fromPartial({
      ownerId: party === town.parties[0] && resident !== undefined ? resident.userId : newId("user", bucket),
      currency: town.currency,
      kind: Account_Kind[party.kind],
      reference: `demo-${run}/${party.id}`,
      metadata: { name: party.name, town: town.name },
      idempotencyKey: `demo/${run}/${encodeURIComponent(party.id)}`,
    });
    opened.set(party.id, { ...(await ledger.openAccount(request)), id: party.id });
    progress.advance();
  });
  progress.done();
  return opened;
}

/** Posts all payments in their order, shard by shard side by side; adds system accounts to `accounts`. Answers faults. */
async function postPayments(
  ledger: Ledger,
  run: string,
  payments: readonly Payment[],
  accounts: Map<string, DemoAccount>,
  screen: Screen,
): Promise<string[]> {
  const faults: string[] = [];
  const numbered = payments.map((payment, number) => ({ payment, number }));
  const shardOf = ({ town }: Payment) => accounts.get(town.parties[0]?.id ?? "")?.shard ?? 0;
  const byShard = Map.groupBy(numbered, ({ payment }) => shardOf(payment));
  const progress = startProgress(screen, "Payments", payments.length);
  const named = (id: string) => accounts.get(id)?.accountId ?? systemName(run, id);
  await forEachBounded([...byShard.values()], byShard.size, (items) =>
    postInOrder(
      ledger,
      items,
      ({ payment, number }) =>
        CreateTransferRequest.fromPartial({
          postings: payment.postings.map(({ from, to, amountMinorUnits }) => ({
            debitAccountId: named(from),
            creditAccountId: named(to),
            amountMinorUnits,
            currency: payment.town.currency,
          })),
          type: payment.type,
          memo: payment.memo,
          effectiveTime: new Date(payment.timeMs),
          idempotencyKey: `demo/${run}/${number}`,
        }),
      ({ payment, number }, outcome) => {
        progress.advance();
        if (outcome.kind === "refused") {
          faults.push(`payment ${number} (${payment.type}) was refused: ${outcome.message}`);
          return;
        }
        const { currency } = payment.town;
        for (const [index, { from, to }] of payment.postings.entries()) {
          const posting = outcome.transfer.postings[index];
          for (const [id, accountId] of [
            [from, posting?.debitAccountId],
            [to, posting?.creditAccountId],
          ] as const) {
            if (!id.startsWith("system:") || accountId === undefined) continue;
            accounts.set(`${id} ${currency}`, {
              accountId,
              currency,
              shard: shardOf(payment),
              replayed: false,
              id: `${id} ${currency}`,
            });
          }
        }
      },
    ),
  );
  progress.done();
  return faults;
}

/** Each run has its own system accounts: effective times of an account may not go back, and each run begins in the past. */
function systemName(run: string, id: string): string {
  return `system:demo_${run}_${id.slice("system:".length)}`;
}

async function readBalances(
  ledger: Ledger,
  economy: Economy,
  accounts: ReadonlyMap<string, DemoAccount>,
  faults: string[],
  screen: Screen,
): Promise<DemoBalance[]> {
  const due = finalBalances(economy);
  const balances: DemoBalance[] = [];
  const progress = startProgress(screen, "Check", accounts.size);
  await forEachBounded([...accounts.values()], READS_AT_ONCE, async ({ id, accountId, shard }) => {
    const { currency, postedMinorUnits } = await ledger.readAccount(accountId);
    balances.push({ name: nameOf(id), currency, shard, balanceMinorUnits: postedMinorUnits });
    if (postedMinorUnits !== due.get(id)) {
      faults.push(`${id} (${accountId}) has ${postedMinorUnits} minor units, not ${due.get(id)}`);
    }
    progress.advance();
  });
  progress.done();
  return balances;
}

/** A person of the first town. */
function chooseExample(
  towns: readonly Town[],
  accounts: ReadonlyMap<string, DemoAccount>,
  residents: ReadonlyMap<Town, Resident>,
): DemoResult["example"] {
  const town = towns[0];
  const party = town?.parties[0];
  const account = accounts.get(party?.id ?? "");
  if (town === undefined || party === undefined || account === undefined) throw new Error("the economy has no people");
  return { party, town, accountId: account.accountId, resident: residents.get(town) };
}

/** `Lindenau/Hazel` is Hazel, `system:cash EUR` is system:cash. */
function nameOf(id: string): string {
  return id.startsWith("system:") ? (id.split(" ")[0] as string) : id.slice(id.indexOf("/") + 1);
}
