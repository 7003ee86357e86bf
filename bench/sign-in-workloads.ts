import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type MakeCall, measureClosedLoop } from "#bench/closed-loop.ts";
import { fundAccounts } from "#bench/fund-accounts.ts";
import { type Harness, measureChecked, unaryLoad, WARM_UP_MS } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { type Measurement, median, percentile, summarize } from "#bench/measurement.ts";
import { type DrawPair, uniformPairs } from "#bench/pairs.ts";
import type { Row } from "#bench/table.ts";
import { checkShards, countTransfers } from "#bench/verify.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { idGenerator } from "#lib/ids.ts";
import { openTls } from "#lib/tls.ts";
import {
  CreateSessionRequest,
  CreateUserRequest,
  IdentityServiceClient,
} from "#proto/ledgermesh/identity/v1/identity.ts";

/** What signing in costs, what it costs everybody else, and what is left of a flood of attempts. */

export const SIGN_IN = "sign-in";

const AT_ONCE = 8;
const SIGN_IN_P99_MAX_MS = 300;
const USERS = 64;
const PASSWORD = "a sound password";
const ACCOUNTS = 1_000;
const TRANSFERS_PER_SECOND = 300;
/** Of the transfers' p99 with sign-ins to that without. */
const P99_TIMES_MAX = 1.2;

const FLOOD_SECONDS = 30;
const FLOOD_PER_SECOND = 1_000;
const FLOOD_CONNECTIONS = 512;
/** What the client must have sent for it to be a flood. */
const FLOOD_SENT_SHARE_MIN = 0.95;
/** All of 127/8 is this machine: Envoy sees two clients. */
const FLOOD_ADDRESS = "127.0.0.2";
const OTHER_ADDRESS = "127.0.0.3";
const OTHERS_EVERY_MS = 250;
const TIMEOUT_MS = 10_000;

const newId = idGenerator(Date.now);

export async function runSignIn(harness: Harness): Promise<Row[]> {
  const { stack, say } = harness;
  const ledger = openLedger(stack);
  const identity = openClient(IdentityServiceClient, stack.identity, openTls(stack.tls));
  try {
    say(`signing up ${USERS} users, funding ${ACCOUNTS} accounts on shard 1`);
    const emails = await signUp(identity);
    const draw = uniformPairs(await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length));
    const rows = await runTurns(harness, identity, emails, draw);
    rows.push(...(await runFlood(harness, emails)));
    await checkShards(stack.shards);
    return rows;
  } finally {
    ledger.close();
    identity.close();
  }
}

async function signUp(identity: IdentityServiceClient): Promise<string[]> {
  const emails = Array.from({ length: USERS }, (_, index) => `bench${index}.${newId("user", 0)}@example.com`);
  for (const email of emails) {
    const request = { email, password: PASSWORD, name: "Bench", country: "CZ", idempotencyKey: newId("user", 0) };
    await call(identity, identity.createUser, CreateUserRequest.fromPartial(request));
  }
  return emails;
}

/** Sign-ins alone, transfers alone, and both, once in each round. */
async function runTurns(
  harness: Harness,
  identity: IdentityServiceClient,
  emails: readonly string[],
  draw: DrawPair,
): Promise<Row[]> {
  const { client, stack, rounds, seconds, say } = harness;
  const signIns = () => measureClosedLoop(signInCallers(identity, emails), WARM_UP_MS, seconds * 1000);
  const transfers = (name: string) =>
    measureChecked(harness, {
      name,
      measure: () => client.measure({ ...unaryLoad(harness, "grpc", draw), callsPerSecond: TRANSFERS_PER_SECOND }),
      count: () => countTransfers(stack.shards),
    });
  const name = `unary gRPC at ${TRANSFERS_PER_SECOND} transfers/s`;
  const alone: Measurement[] = [];
  const beside: Measurement[] = [];
  const signedIn: Measurement[] = [];
  const signedInBeside: Measurement[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    say(`round ${round} of ${rounds}`);
    signedIn.push(allSucceeded(await signIns()));
    alone.push(await transfers(name));
    const signingIn = signIns();
    beside.push(await transfers(`${name}, ${AT_ONCE} sign-ins at once beside them`));
    signedInBeside.push(allSucceeded(await signingIn));
  }
  const p99 = (measurement: Measurement) => summarize([measurement]).p99Ms;
  const ratio = median(beside.map((measurement, round) => p99(measurement) / p99(alone[round] as Measurement)));
  const signIn = summarize(signedIn);
  return [
    {
      workload: `sign-in, ${AT_ONCE} at once (sign-ins/s)`,
      summary: signIn,
      bound: `p99 < ${SIGN_IN_P99_MAX_MS} ms`,
      met: signIn.p99Ms < SIGN_IN_P99_MAX_MS,
    },
    { workload: name, summary: summarize(alone) },
    {
      workload: `  with ${AT_ONCE} sign-ins at once beside them; ratio of the p99`,
      summary: summarize(beside),
      ratio,
      bound: `<= ${P99_TIMES_MAX}`,
      met: ratio <= P99_TIMES_MAX,
    },
    { workload: "  these sign-ins (sign-ins/s)", summary: summarize(signedInBeside) },
  ];
}

function signInCallers(identity: IdentityServiceClient, emails: readonly string[]): MakeCall[] {
  let next = 0;
  return Array.from({ length: AT_ONCE }, () => async () => {
    const email = emails[next++ % emails.length] as string;
    await call(identity, identity.createSession, CreateSessionRequest.fromPartial({ email, password: PASSWORD }));
    return 1;
  });
}

function allSucceeded(measurement: Measurement): Measurement {
  if (measurement.failed > 0) throw new Error(`sign-ins failed: ${measurement.firstFailures.join("; ")}`);
  return measurement;
}

interface Answers {
  /** How many answers of each HTTP status. */
  readonly byStatus: Map<number, number>;
  readonly latenciesMs: number[];
}

async function runFlood({ stack, say, signal }: Harness, emails: readonly string[]): Promise<Row[]> {
  say(`${FLOOD_PER_SECOND} attempts/s from one address for ${FLOOD_SECONDS} s`);
  const flood = openClientAt(stack.gateway, FLOOD_ADDRESS);
  const others = openClientAt(stack.gateway, OTHER_ADDRESS);
  const startedMs = performance.now();
  const endMs = startedMs + FLOOD_SECONDS * 1000;
  async function attempts(everyMs: number, attempt: (index: number) => Promise<void>): Promise<number> {
    const underWay: Promise<void>[] = [];
    for (let index = 0; performance.now() < endMs && !signal.aborted; ) {
      // As many as are due by the clock: a timer is no clock.
      for (; startedMs + index * everyMs <= performance.now(); index += 1) underWay.push(attempt(index));
      await sleep(Math.min(everyMs, 5));
    }
    await Promise.all(underWay);
    return underWay.length;
  }
  const [sent] = await Promise.all([
    attempts(1000 / FLOOD_PER_SECOND, (index) => flood.signIn(`nobody${index}@example.com`)),
    attempts(OTHERS_EVERY_MS, (index) => others.signIn(emails[index % emails.length] as string)),
  ]);
  signal.throwIfAborted();
  flood.close();
  others.close();
  const show = ({ byStatus }: Answers) => [...byStatus].map(([status, count]) => `${count} x ${status}`).join(", ");
  const refused = [...flood.answers.byStatus.keys()].every((status) => status === 429 || status === 401);
  const letThrough = flood.answers.byStatus.get(401) ?? 0;
  const wasFlood = sent >= FLOOD_SENT_SHARE_MIN * FLOOD_PER_SECOND * FLOOD_SECONDS;
  const served = [...others.answers.byStatus.keys()].every((status) => status === 200);
  const sorted = others.answers.latenciesMs.toSorted((a, b) => a - b);
  const p99Ms = percentile(sorted, 0.99);
  return [
    {
      workload: `${sent} attempts in ${FLOOD_SECONDS} s from one address through Envoy: ${show(flood.answers)}`,
      figure: `${letThrough} tried`,
      bound: "429 or 401 only",
      met: refused && wasFlood,
    },
    {
      workload: `  sign-ins from another address meanwhile: ${show(others.answers)}`,
      figure: `p99 ${Math.round(p99Ms)} ms`,
      bound: `all, p99 < ${SIGN_IN_P99_MAX_MS} ms`,
      met: served && p99Ms < SIGN_IN_P99_MAX_MS,
    },
  ];
}

/** A client of the gateway with an address of its own. */
function openClientAt(gateway: string, localAddress: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: FLOOD_CONNECTIONS, localAddress } as object);
  const answers: Answers = { byStatus: new Map(), latenciesMs: [] };
  return {
    answers,
    close: () => agent.destroy(),
    signIn(email: string): Promise<void> {
      const body = JSON.stringify({ email, password: PASSWORD });
      const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const sentMs = performance.now();
      return new Promise((resolve) => {
        const note = (status: number) => {
          answers.byStatus.set(status, (answers.byStatus.get(status) ?? 0) + 1);
          answers.latenciesMs.push(performance.now() - sentMs);
          resolve();
        };
        const options = { method: "POST", agent, headers, localAddress, timeout: TIMEOUT_MS };
        const sent = request(`${gateway}/v1/sessions`, options, (response) => {
          response.resume().once("end", () => note(response.statusCode ?? 0));
        });
        sent.on("timeout", () => sent.destroy(new Error("no answer")));
        // Counted as status 0: a connection that breaks is no refusal.
        sent.once("error", () => note(0)).end(body);
      });
    },
  };
}
