#!/usr/bin/env node
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { auditJson, auditReport, auditVerdict } from "#cli/audit-report.ts";
import { auditVerify } from "#cli/audit-verify.ts";
import { OPTIONAL_COLUMNS, REQUIRED_COLUMNS } from "#cli/bank-transaction.ts";
import { ALL_INVARIANTS, check } from "#cli/check.ts";
import { INVARIANTS, type Invariant, MAX_FINDINGS } from "#cli/check-findings.ts";
import { checkJson, checkReport, checkVerdict } from "#cli/check-report.ts";
import { runDemo } from "#cli/demo.ts";
import { demoFaults, historyReport, linesToTry, moneyTable, statement } from "#cli/demo-report.ts";
import { accessToken, defaultGateway, defaultIdentity, defaultLedger } from "#cli/endpoints.ts";
import { readHistory } from "#cli/history.ts";
import { importFile, Stopped } from "#cli/import.ts";
import { importJson, importReport, isComplete } from "#cli/import-report.ts";
import { setOperator } from "#cli/operator.ts";
import { GaveUp, Interrupted } from "#cli/patience.ts";
import { signIn } from "#cli/resident.ts";
import { auditorShards } from "#cli/shard-connections.ts";
import { makeToken, type TokenOptions, tokenJson } from "#cli/token.ts";
import { type Anchor, MAX_PROBLEMS } from "#cli/verify-events.ts";
import { tokenRoles } from "#infra/local/development-key.ts";
import { Problem } from "#infra/local/problem.ts";

/** The command line: reads arguments, runs a command, and says by the exit status how it went. */
const EXIT_INCOMPLETE = 1;
const EXIT_IMPOSSIBLE = 2;
const EXIT_INTERRUPTED = 130;

const MAX_SEED = 1_000_000_000;
const MAX_PEOPLE = 1_000;
const MAX_DAYS = 366;
const MAX_SHARDS = 256;

const IMPORT_HELP = `
Columns (the first line names them, in any order):
  ${REQUIRED_COLUMNS.join(", ")}
  and, if the bank gives them, ${OPTIONAL_COLUMNS.join(", ")}

Each account of the file becomes an account of its own owner, with the reference BOOK/ACCOUNT; the other side of a row is
system:BOOK_cash, _interest, _fees, _penalties, _bank_XX or _KIND. The date becomes the effective time. Rows are posted by
date, within a day in the file's order. A bad row is left out and named by its line; it does not stop the others.

Exit status: 0 everything is in and adds up; 1 rows were left out, something differs, or it was cut off by a failure;
2 nothing could be imported; 130 stopped by Ctrl-C (repeat the command to go on).`;

const AUDIT_HELP = `
Each event has a hash, and the hashes of each shard form a chain, which the relay seals (docs/audit.md). This command reads
all events and seals, computes all hashes again, and names what was altered, removed, added or swapped, up to ${MAX_PROBLEMS}
problems of each shard. It changes nothing and may run at any time.

Which databases: LEDGERMESH_AUDIT_SHARDS, connection strings of all shards (a role that may read, such as auditor), shard 1
first, with commas between them; without it, the local stack.

Exit status: 0 everything is as it was sealed; 1 problems were found; 2 something could not be checked; 130 stopped by Ctrl-C.`;

const OPERATOR_HELP = `
The user signs up and turns a second factor on first, like anybody. Their sessions end, and they sign in again, with it.
Only the console's certificate may do this: on the local stack, whoever can read its secrets.

Exit status: 0 it is so; 2 it was refused, or identity does not answer.`;

const CHECK_HELP = `
The invariants, on each shard:
${Object.entries(INVARIANTS)
  .map(([number, name]) => `  ${number}  ${name}`)
  .join("\n")}

It reads a live system beside any load, changes nothing, keeps nobody waiting, and names what is broken, up to ${MAX_FINDINGS} of each
shard and invariant (docs/check.md says what each reason means and what to do).

Which databases: LEDGERMESH_AUDIT_SHARDS, connection strings of all shards (a role that may read, such as auditor), shard 1
first, with commas between them; without it, the local stack.

Exit status: 0 everything holds; 1 something is broken; 2 something could not be checked; 130 stopped by Ctrl-C.`;

const TOKEN_HELP = `
The token stands alone on standard output, for a shell to take: -H "authorization: Bearer $(npx ledgermesh token)".
It is good for an hour and belongs to no session. Without --user it is of a user of the role's own, under whose id nothing
has to exist; without --name, of the service "console", as which the commands call.

It is signed with the development key that the launcher made. Services of the local stacks know that key; others refuse it,
and where there is no such key, no token can be made.

Exit status: 0 made; 2 impossible.`;

const interrupted = new AbortController();
// The first Ctrl-C ends the work in order; the second ends the process, since the listener is gone.
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => interrupted.abort());
// A reader that went away (`| head`) is no reason to stop posting.
process.stdout.on("error", () => {});

function commands(): Command {
  const program = new Command("ledgermesh")
    .description("Ledgermesh on the command line.")
    .exitOverride()
    .showHelpAfterError("(--help says more)");
  program
    .command("import")
    .description("Take a bank's transactions (CSV) into the ledger; may be repeated, and goes on where it was cut off.")
    .argument("<file>", "CSV with the columns below")
    .option("--book <name>", "the book that the accounts belong to (default: by the file's name)")
    .option("--ledger <host:port>", "the ledger's gRPC address", parseAddress, defaultLedger())
    .option("--json", "print the result as one JSON object; progress goes to standard error")
    .addHelpText("after", IMPORT_HELP)
    .action(importCommand);
  program
    .command("demo")
    .description("Send a made-up little economy through the ledger, and show an account's statement and URLs to try.")
    .option("--seed <number>", "the same seed makes the same payments", wholeNumber(0, MAX_SEED), 1)
    .option("--people <number>", "how many people pay each other", wholeNumber(1, MAX_PEOPLE), 60)
    .option("--days <number>", "how many days they do, up to now", wholeNumber(1, MAX_DAYS), 30)
    .option("--ledger <host:port>", "the ledger's gRPC address", parseAddress, defaultLedger())
    .option("--gateway <url>", "the REST base URL", defaultGateway())
    .action(demoCommand);
  program
    .command("audit")
    .description("Show that the log of events is as it was written.")
    .command("verify")
    .description("Hold every event against its seal; name what was altered, removed, added or swapped.")
    .option("--expect <shard:number:hash>", "a chain hash written down earlier must still hold (repeatable)", anchors)
    .option("--stack <name>", "a local stack instead of the environment's databases")
    .option("--json", "print the result as one JSON object; progress goes to standard error")
    .addHelpText("after", AUDIT_HELP)
    .action(auditVerifyCommand);
  program
    .command("check")
    .description("Check the ledger's invariants on the live system; name what is broken.")
    .option("--shard <number>", "only this shard; the others are asked about its transfers", wholeNumber(1, MAX_SHARDS))
    .option("--only <numbers>", "only these invariants, with commas between them", invariants)
    .option("--stack <name>", "a local stack instead of the environment's databases")
    .option("--json", "print the result as one JSON object; progress goes to standard error")
    .addHelpText("after", CHECK_HELP)
    .action(checkCommand);
  const operator = program
    .command("operator")
    .description("Decide who runs the system.")
    .addHelpText("after", OPERATOR_HELP);
  for (const [change, description] of [
    ["grant", "Make a user an operator."],
    ["withdraw", "Make an operator an ordinary user again."],
  ] as const) {
    operator
      .command(change)
      .description(description)
      .argument("<email>", "the address that they sign in with")
      .option("--identity <host:port>", "identity's gRPC address", parseAddress, defaultIdentity())
      .action((email: string, options: { readonly identity: string }) =>
        operatorCommand(change, email, options.identity),
      );
  }
  program
    .command("token")
    .description("Make a short-lived access token for a local development stack, and print it.")
    .option("--role <role>", `whose: ${tokenRoles.join(", ")}`, "service")
    .option("--user <id>", "user_…, of a user, merchant or operator")
    .option("--name <name>", "of a service")
    .option("--second-factor", "as if signed in with a second factor (operators always are)", false)
    .option("--stack <name>", "the local stack", "dev")
    .option("--json", "print the token, whose it is and until when as one JSON object")
    .addHelpText("after", TOKEN_HELP)
    .action(tokenCommand);
  return program;
}

async function importCommand(
  path: string,
  options: { readonly book?: string; readonly ledger: string; readonly json?: true },
): Promise<void> {
  const asJson = options.json === true;
  const result = await importFile({
    path,
    book: options.book,
    ledger: options.ledger,
    nowMs: Date.now(),
    signal: interrupted.signal,
    screen: asJson ? process.stderr : process.stdout,
  });
  process.stdout.write(asJson ? importJson(result) : importReport(result));
  if (!isComplete(result)) process.exitCode = EXIT_INCOMPLETE;
}

async function demoCommand(options: {
  readonly seed: number;
  readonly people: number;
  readonly days: number;
  readonly ledger: string;
  readonly gateway: string;
}): Promise<void> {
  const { gateway } = options;
  const { signal } = interrupted;
  const say = (text: string) => process.stdout.write(`${text}\n`);
  const result = await runDemo({ ...options, nowMs: Date.now(), signal, screen: process.stdout });
  say(moneyTable(result));
  say(statement(result));
  const { example, entries, position } = result;
  const { resident } = example;
  const token = (resident && (await signIn(gateway, resident, signal))) ?? (await accessToken());
  const history = historyReport(
    result,
    gateway,
    await readHistory(gateway, token, example.accountId, position, entries.length, signal),
  );
  say(history.text);
  say(linesToTry(result, gateway));
  const faults = demoFaults(result);
  if (faults.length > 0) say(`NOT OK:\n${faults.join("\n")}`);
  if (faults.length > 0 || history.fault) process.exitCode = EXIT_INCOMPLETE;
}

async function auditVerifyCommand(options: {
  readonly expect?: readonly Anchor[];
  readonly stack?: string;
  readonly json?: true;
}): Promise<void> {
  const result = await auditVerify({
    shards: auditorShards(options.stack),
    anchors: options.expect ?? [],
    signal: interrupted.signal,
    screen: process.stderr,
  });
  process.stdout.write(options.json === true ? auditJson(result) : auditReport(result));
  const verdict = auditVerdict(result);
  if (verdict !== "OK") process.exitCode = verdict === "NOT_OK" ? EXIT_INCOMPLETE : EXIT_IMPOSSIBLE;
}

async function checkCommand(options: {
  readonly shard?: number;
  readonly only?: readonly Invariant[];
  readonly stack?: string;
  readonly json?: true;
}): Promise<void> {
  const result = await check({
    shards: auditorShards(options.stack),
    shard: options.shard,
    only: options.only ?? ALL_INVARIANTS,
    signal: interrupted.signal,
    screen: process.stderr,
  });
  process.stdout.write(options.json === true ? checkJson(result) : checkReport(result));
  const verdict = checkVerdict(result);
  if (verdict !== "OK") process.exitCode = verdict === "NOT_OK" ? EXIT_INCOMPLETE : EXIT_IMPOSSIBLE;
}

async function operatorCommand(change: "grant" | "withdraw", email: string, identity: string): Promise<void> {
  const { userId } = await setOperator(identity, email, change);
  const now = change === "grant" ? "an operator, once signed in again, with a second factor" : "no operator any more";
  process.stdout.write(`${userId} is ${now}.\n`);
}

async function tokenCommand(options: TokenOptions & { readonly json?: true }): Promise<void> {
  const made = await makeToken(options);
  process.stdout.write(options.json === true ? tokenJson(made) : `${made.token}\n`);
}

function invariants(text: string): readonly Invariant[] {
  const wanted = text.split(",").map((part) => ALL_INVARIANTS.find((number) => String(number) === part.trim()));
  if (wanted.every((number) => number !== undefined)) return ALL_INVARIANTS.filter((number) => wanted.includes(number));
  throw new InvalidArgumentError(`It must be numbers out of ${ALL_INVARIANTS.join(", ")}, with commas between them.`);
}

function anchors(text: string, before: readonly Anchor[] = []): readonly Anchor[] {
  const match = /^([1-9]\d{0,4}):(\d{1,18}):([0-9a-f]{64})$/i.exec(text);
  if (match === null)
    throw new InvalidArgumentError(
      "It must be SHARD:NUMBER:HASH as the audit prints it, the hash of 64 digits 0-9, a-f.",
    );
  const [, shard, number, hash] = match as unknown as [string, string, string, string];
  return [...before, { shard: Number(shard), number: BigInt(number), chainHash: Buffer.from(hash, "hex") }];
}

function wholeNumber(first: number, last: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= first && value <= last) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${first} to ${last}.`);
  };
}

function parseAddress(text: string): string {
  if (/^[^\s:/]+:\d{1,5}$/.test(text)) return text;
  throw new InvalidArgumentError("It must be HOST:PORT.");
}

function exitStatusOf(error: unknown): number {
  // Commander has said what is wrong.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_IMPOSSIBLE;
  const expected = [Problem, Stopped, GaveUp, Interrupted].some((kind) => error instanceof kind);
  if (!expected) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  if (error instanceof Problem) return EXIT_IMPOSSIBLE;
  return interrupted.signal.aborted ? EXIT_INTERRUPTED : EXIT_INCOMPLETE;
}

try {
  await commands().parseAsync();
} catch (error) {
  process.exitCode = exitStatusOf(error);
}
