import { basename } from "node:path";
import { type BadRow, type BankFile, bookNameOf, readBankFile } from "#cli/bank-file.ts";
import type { BankTransaction } from "#cli/bank-transaction.ts";
import { BOOK_PATTERN, BOOK_RULE, counterpartyOf, transferRequestOf } from "#cli/book.ts";
import { forEachBounded } from "#cli/bounded.ts";
import { checkTotals, type Totals } from "#cli/check-totals.ts";
import { connectLedger, type Ledger, type OpenedAccount } from "#cli/ledger.ts";
import { openAccounts } from "#cli/open-accounts.ts";
import { GaveUp, Interrupted } from "#cli/patience.ts";
import { postInOrder } from "#cli/post-in-order.ts";
import { formatCount, type Screen, startProgress, waitingWords } from "#cli/progress.ts";
import { startTally, type Tally } from "#cli/tally.ts";
import { Problem } from "#infra/local/problem.ts";

/**
 * Takes a bank's file into the ledger: reads and checks all of it, opens its accounts, posts its rows, and reads every
 * balance back. Each step may be repeated: keys are made of the book's name and the file's own ids, so what is there already
 * is recognised, and an import that was cut off goes on where it was.
 */
export interface ImportOptions {
  readonly path: string;
  /** Undefined: by the name of the file. */
  readonly book: string | undefined;
  /** host:port */
  readonly ledger: string;
  readonly nowMs: number;
  readonly signal: AbortSignal;
  readonly screen: Screen;
}

export interface ImportResult {
  readonly book: string;
  readonly file: BankFile;
  readonly opened: ReadonlyMap<string, OpenedAccount>;
  readonly tally: Tally;
  readonly posted: number;
  /** Of the posted: those that were in the ledger before. */
  readonly replayed: number;
  /** Rows that the file or the ledger made impossible, by line. */
  readonly badRows: readonly BadRow[];
  readonly totals: Totals;
  /** For `x-read-after`: a query that sends it sees the whole import. */
  readonly position: string;
  readonly durationMs: number;
}

/** Shards that are written to at the same time. */
const SHARDS_AT_ONCE = 16;

/** Throws a Problem when nothing can be imported, and Stopped when it ended before the last row. */
export async function importFile(options: ImportOptions): Promise<ImportResult> {
  const { path, screen, signal, nowMs } = options;
  const started = performance.now();
  const book = chooseBook(options);
  const file = readBankFile(path, nowMs);
  const overdrawn = file.accounts.filter(({ lowestMinorUnits }) => lowestMinorUnits < 0n).length;
  screen.write(
    `${basename(path)}: ${formatCount(file.rows)} rows, ${formatCount(file.badRows.length)} of them bad; ` +
      `${formatCount(file.accounts.length)} accounts, ${formatCount(overdrawn)} of them overdrawn at times. Book: ${book}\n`,
  );
  const ledger = await connectLedger(options.ledger, signal, waitingWords(screen));
  const outcomes = { posted: 0, replayed: 0, refused: [] as BadRow[] };
  try {
    const opening = startProgress(screen, "Accounts", file.accounts.length);
    const opened = await openAccounts(ledger, book, file.accounts, opening.advance);
    opening.done();
    const tally = startTally(opened);
    await postRows(ledger, book, file, opened, tally, outcomes, screen);
    const checking = startProgress(screen, "Check", tally.accounts.size);
    const refusedLines = new Set(outcomes.refused.map(({ line }) => line));
    const totals = await checkTotals(ledger, tally, file, refusedLines, checking.advance);
    checking.done();
    return {
      book,
      file,
      opened,
      tally,
      posted: outcomes.posted,
      replayed: outcomes.replayed,
      badRows: [...file.badRows, ...outcomes.refused].sort((a, b) => a.line - b.line),
      totals,
      position: ledger.position(),
      durationMs: performance.now() - started,
    };
  } catch (error) {
    if (!(error instanceof GaveUp || error instanceof Interrupted)) throw error;
    const why = error instanceof GaveUp ? `The ledger did not take more: ${error.message}` : "Stopped.";
    throw new Stopped(
      `${why} ${formatCount(outcomes.posted)} of ${formatCount(file.transactions.length)} rows are known to be in. ` +
        "To go on, repeat the same command: nothing is posted twice.",
      error instanceof Interrupted,
    );
  } finally {
    ledger.close();
  }
}

/** The import ended before the last row; the message says how to go on. */
export class Stopped extends Error {
  readonly byUser: boolean;

  constructor(message: string, byUser: boolean) {
    super(message);
    this.byUser = byUser;
  }
}

function chooseBook({ path, book }: ImportOptions): string {
  const chosen = book ?? bookNameOf(path);
  if (BOOK_PATTERN.test(chosen)) return chosen;
  throw new Problem(
    book === undefined
      ? `The name of the file makes no name for its book ("${chosen}"). Give one: --book NAME (${BOOK_RULE})`
      : `"${book}" is no name for a book: it must be ${BOOK_RULE}.`,
  );
}

/** Posts the rows, shard by shard side by side. */
async function postRows(
  ledger: Ledger,
  book: string,
  file: BankFile,
  opened: ReadonlyMap<string, OpenedAccount>,
  tally: Tally,
  outcomes: { posted: number; replayed: number; refused: BadRow[] },
  screen: Screen,
): Promise<void> {
  const openedOf = ({ account }: BankTransaction) => opened.get(account) as OpenedAccount;
  const byShard = Map.groupBy(file.transactions, (transaction) => openedOf(transaction).shard);
  const posting = startProgress(screen, "Rows", file.transactions.length);
  await forEachBounded([...byShard.values()], SHARDS_AT_ONCE, (transactions) =>
    postInOrder(
      ledger,
      transactions,
      (transaction) => transferRequestOf(book, transaction, openedOf(transaction).accountId),
      (transaction, outcome) => {
        posting.advance();
        switch (outcome.kind) {
          case "posted":
            outcomes.posted += 1;
            if (outcome.replayed) outcomes.replayed += 1;
            tally.add(transaction.account, openedOf(transaction), counterpartyOf(transaction), outcome.transfer);
            break;
          case "refused":
            outcomes.refused.push({ line: transaction.line, reason: `refused by the ledger: ${outcome.message}` });
            break;
        }
      },
    ),
  );
  posting.done();
}
