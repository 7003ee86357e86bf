import { status } from "@grpc/grpc-js";
import type { BankAccount } from "#cli/bank-file.ts";
import { accountRequest } from "#cli/book.ts";
import { forEachBounded } from "#cli/bounded.ts";
import type { Ledger, OpenedAccount } from "#cli/ledger.ts";
import { Problem } from "#infra/local/problem.ts";
import { CallError } from "#lib/grpc-client.ts";

/** The ledger groups what arrives together into one commit. */
const CALLS_AT_ONCE = 64;

/** Opens the accounts of a book, or finds them; answers by their names in the file, in its order. */
export async function openAccounts(
  ledger: Ledger,
  book: string,
  accounts: readonly BankAccount[],
  onOpened: () => void,
): Promise<Map<string, OpenedAccount>> {
  const opened: (readonly [string, OpenedAccount])[] = [];
  await forEachBounded(accounts, CALLS_AT_ONCE, async (account, index) => {
    opened[index] = [account.name, await openAccount(ledger, book, account)];
    onOpened();
  });
  return new Map(opened);
}

async function openAccount(ledger: Ledger, book: string, account: BankAccount): Promise<OpenedAccount> {
  try {
    return await ledger.openAccount(accountRequest(book, account, account.lowestMinorUnits < 0n));
  } catch (error) {
    if (!(error instanceof CallError) || error.code !== status.ALREADY_EXISTS) throw error;
  }
  // The account is from an import of this file as it was before, when it overdrew the account or did not yet.
  try {
    return await ledger.openAccount(accountRequest(book, account, account.lowestMinorUnits >= 0n));
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    throw new Problem(
      `Account ${account.name} of line ${account.firstLine} exists in book ${book} already, as another account: ${error.message} Give the file a book of its own: --book NAME`,
    );
  }
}
