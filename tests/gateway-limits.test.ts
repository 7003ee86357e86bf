import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import type { GatewayConfig } from "#gateway/config.ts";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { parseRaw, requestText, sendRaw } from "#tests/raw-http.ts";
import { errorOf, type RestAnswer } from "#tests/rest.ts";
import { eventually } from "#tests/stack.ts";

/** Who asks for too much gets it refused, and everybody else is served. Clients here are addresses of loopback. */

const ACCOUNT = "/v1/ledger/accounts/acct_1";
const TRANSFERS = "/v1/ledger/transfers";
const SESSIONS = "/v1/sessions";
const [FLOODER, NEIGHBOUR] = ["127.0.0.2", "127.0.0.3"];
const [RESOURCE_EXHAUSTED, UNAVAILABLE] = [8, 14];
const MANY = { calls: 1_000_000, windowSeconds: 1 };
/** So slow that no bucket refills within a test. */
const limitOf = (calls: number) => ({ calls, windowSeconds: 3_600 });

/** Runs with a gateway of its own. */
async function withGateway(
  settings: Partial<GatewayConfig>,
  run: (gateway: GatewayProcess) => Promise<void>,
  adjust?: (config: string) => string,
): Promise<void> {
  const gateway = await startGateway(undefined, adjust, settings);
  try {
    await run(gateway);
  } finally {
    gateway.stop();
  }
}

async function send(
  gateway: GatewayProcess,
  from: string,
  path = ACCOUNT,
  headers: Readonly<Record<string, string>> = {},
): Promise<RestAnswer> {
  const isCommand = path === TRANSFERS || path === SESSIONS;
  const text = requestText(isCommand ? "POST" : "GET", path, headers, isCommand ? "{}" : undefined);
  return parseRaw(await sendRaw(text, gateway.url, from));
}

test("an address that calls too often hears when to come back, and every answer says what is left", async () => {
  const rateLimits = { sign_in: MANY, command: limitOf(2), query: limitOf(3) };
  await withGateway({ rateLimits }, async (gateway) => {
    const allowed = [await send(gateway, FLOODER, TRANSFERS), await send(gateway, FLOODER, TRANSFERS)];
    assert.deepEqual(
      allowed.map(({ status, headers }) => [
        status,
        headers.get("x-ratelimit-limit"),
        headers.get("x-ratelimit-remaining"),
      ]),
      [
        [200, "2", "1"],
        [200, "2", "0"],
      ],
    );
    const answer = await send(gateway, FLOODER, TRANSFERS);
    const { status, code, reason } = errorOf(answer);
    assert.deepEqual([status, code, reason], [429, RESOURCE_EXHAUSTED, "RATE_LIMITED"]);
    const waitSeconds = Number(answer.headers.get("retry-after"));
    assert.ok(waitSeconds > 60 && waitSeconds <= 1_800, `${waitSeconds}: half of the hour at most`);
    assert.match(answer.text, new RegExp(`"retry_delay":"${waitSeconds}s"`));
    assert.equal(answer.headers.get("x-ratelimit-remaining"), "0");
    assert.ok(Number(answer.headers.get("x-ratelimit-reset")) > 0);
    assert.equal(gateway.seen.length, 2, "a refused call reached the service");
    // What it may ask is counted apart from what it may do; and others have their own.
    assert.equal((await send(gateway, FLOODER)).status, 200);
    assert.equal((await send(gateway, NEIGHBOUR, TRANSFERS)).status, 200);
  });
});

test("a bucket refills evenly, not all at once", async () => {
  const rateLimits = { sign_in: MANY, command: MANY, query: { calls: 20, windowSeconds: 2 } };
  await withGateway({ rateLimits }, async (gateway) => {
    const statuses = async (count: number) => {
      const answers = await Promise.all(Array.from({ length: count }, () => send(gateway, FLOODER)));
      return answers.filter(({ status }) => status === 200).length;
    };
    assert.ok((await statuses(60)) < 30);
    // Far from a whole window later there is one again.
    await eventually(async () => (await send(gateway, FLOODER)).status === 200, "one call is allowed again", 1_000);
  });
});

test("what is not there is counted too", async () => {
  await withGateway({ rateLimits: { sign_in: MANY, command: MANY, query: limitOf(2) } }, async (gateway) => {
    const statuses: number[] = [];
    for (const path of ["/.env", "/admin", "/v1/nothing"]) statuses.push((await send(gateway, FLOODER, path)).status);
    assert.deepEqual(statuses, [404, 404, 429]);
  });
});

test("nobody gets another bucket by headers, methods, spellings of the path or a query", async () => {
  await withGateway({ rateLimits: { sign_in: MANY, command: MANY, query: limitOf(1) } }, async (gateway) => {
    assert.equal((await send(gateway, FLOODER)).status, 200);
    const dodges: (() => Promise<RestAnswer>)[] = [
      ...["x-forwarded-for", "x-envoy-external-address", "x-real-ip", "forwarded", "x-client-ip", "true-client-ip"].map(
        (name) => () => send(gateway, FLOODER, ACCOUNT, { [name]: "203.0.113.9" }),
      ),
      () => send(gateway, FLOODER, ACCOUNT, { "x-envoy-internal": "true" }),
      () => send(gateway, FLOODER, ACCOUNT, { "user-agent": "another" }),
      () => send(gateway, FLOODER, ACCOUNT, { host: "another" }),
      () => send(gateway, FLOODER, `${ACCOUNT}?`),
      () => send(gateway, FLOODER, "/v1/ledger/../ledger/accounts/acct_2"),
      () => send(gateway, FLOODER, "/v1/ledger/%61ccounts/acct_1"),
      () => send(gateway, FLOODER, "/v1/history/entries"),
    ];
    for (const dodge of dodges) assert.equal((await dodge()).status, 429, dodge.toString());
    assert.equal((await send(gateway, NEIGHBOUR)).status, 200);
  });
});

test("behind proxies of ours the address is the one that they saw, whatever stands to its left", async () => {
  const rateLimits = { sign_in: MANY, command: MANY, query: limitOf(1) };
  await withGateway({ rateLimits, trustedHops: 1 }, async (gateway) => {
    const from = async (forwardedFor: string) =>
      (await send(gateway, "127.0.0.1", ACCOUNT, { "x-forwarded-for": forwardedFor })).status;
    assert.equal(await from("203.0.113.1"), 200);
    assert.equal(await from("203.0.113.1"), 429);
    assert.equal(await from("198.51.100.7, 203.0.113.1"), 429, "a client wrote the left one");
    assert.equal(await from("203.0.113.1, 203.0.113.2"), 200);
    assert.equal(gateway.seen.at(-1)?.headers["x-envoy-external-address"], "203.0.113.2");
    // Whoever has one IPv6 address has its /64.
    assert.equal(await from("2001:db8:1:2::1"), 200);
    assert.equal(await from("2001:db8:1:2:ffff::9"), 429);
    assert.equal(await from("2001:db8:1:3::1"), 200);
  });
});

test("while one address floods sign-in, its calls are refused, and everybody else signs in and is served", async () => {
  const rateLimits = { sign_in: { calls: 30, windowSeconds: 60 }, command: MANY, query: MANY };
  await withGateway({ rateLimits }, async (gateway) => {
    const flood = { calls: 0, served: 0 };
    let isOver = false;
    const flooding = Array.from({ length: 16 }, async () => {
      while (!isOver) {
        const { status } = await send(gateway, FLOODER, SESSIONS);
        flood.calls += 1;
        if (status === 200) flood.served += 1;
        else assert.equal(status, 429);
      }
    });
    const tookMs: number[] = [];
    for (let call = 0; call < 20; call += 1) {
      for (const path of [SESSIONS, TRANSFERS, ACCOUNT]) {
        const begin = performance.now();
        assert.equal((await send(gateway, NEIGHBOUR, path)).status, 200);
        tookMs.push(performance.now() - begin);
      }
    }
    await eventually(() => flood.calls >= 1_000, "a thousand calls of the flood");
    isOver = true;
    await Promise.all(flooding);
    assert.ok(flood.served >= 30 && flood.served < 60, `${flood.served} of ${flood.calls} were served`);
    const slowest = Math.max(...tookMs);
    assert.ok(slowest < 1_000, `somebody else waited ${slowest} ms`);
    // What it may do when it is signed in is another matter.
    assert.equal((await send(gateway, FLOODER, TRANSFERS)).status, 200);
  });
});

test("clients that send a byte now and then are given up, and others are served meanwhile", async () => {
  const hasty = (config: string) =>
    config.replace('"request_headers_timeout": "5s"', '"request_headers_timeout": "0.8s"');
  await withGateway(
    {},
    async (gateway) => {
      const slow = Array.from({ length: 200 }, () => dribble(gateway.url));
      const tookMs: number[] = [];
      for (let call = 0; call < 20; call += 1) {
        const begin = performance.now();
        assert.equal((await send(gateway, NEIGHBOUR)).status, 200);
        tookMs.push(performance.now() - begin);
      }
      assert.ok(Math.max(...tookMs) < 500, `others waited ${Math.max(...tookMs)} ms`);
      const answers = await Promise.all(slow);
      for (const answer of answers) {
        assert.deepEqual(
          [errorOf(parseRaw(answer)).status, errorOf(parseRaw(answer)).reason],
          [408, "REQUEST_TIMEOUT"],
        );
      }
    },
    hasty,
  );
});

/** A client that never comes to the end of its headers; resolves with what it got when it was cut off. */
function dribble(url: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(`GET ${ACCOUNT} HTTP/1.1\r\n`));
    const timer = setInterval(() => socket.write("x: y\r\n"), 100);
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearInterval(timer);
      resolve(received);
    });
  });
}

test("the number of connections is bounded, and free again when others are gone", async () => {
  const narrow = (config: string) =>
    config.replace(/"max_active_downstream_connections": \d+/, '"max_active_downstream_connections": 20');
  await withGateway(
    {},
    async (gateway) => {
      const sockets = await Promise.all(Array.from({ length: 20 }, () => open(gateway.url)));
      // Beyond the bound a connection is closed as soon as it is made, without an answer.
      assert.equal(await sendRaw(requestText("GET", ACCOUNT), gateway.url).catch(() => ""), "");
      for (const socket of sockets) socket.destroy();
      await eventually(
        async () => (await sendRaw(requestText("GET", ACCOUNT), gateway.url).catch(() => "")).includes(" 200 OK"),
        "connections are accepted again",
        5_000,
      );
    },
    narrow,
  );
});

test("while most connections are taken, silent ones are closed soon, so that nobody can hold them all", async () => {
  const narrow = (config: string) =>
    config.replace(/"max_active_downstream_connections": \d+/, '"max_active_downstream_connections": 20');
  await withGateway(
    {},
    async (gateway) => {
      const sockets = await Promise.all(Array.from({ length: 19 }, () => open(gateway.url)));
      let closed = 0;
      for (const socket of sockets) socket.resume().on("close", () => (closed += 1));
      for (const socket of sockets) socket.write(requestText("GET", ACCOUNT));
      await eventually(() => closed >= 4, "some are closed, long before 300 s", 15_000);
      assert.equal((await send(gateway, NEIGHBOUR)).status, 200);
      for (const socket of sockets) socket.destroy();
    },
    narrow,
  );
});

function open(url: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => resolve(socket));
    socket.on("error", reject);
  });
}

test("a gateway without memory refuses calls, and says when to come back", async () => {
  const starved = (config: string) => {
    const changed = JSON.parse(config) as {
      overload_manager: { resource_monitors: { typed_config: Record<string, unknown> }[]; actions: { name: string }[] };
    };
    const { resource_monitors: monitors, actions } = changed.overload_manager;
    for (const { typed_config } of monitors) {
      if ("max_heap_size_bytes" in typed_config) typed_config.max_heap_size_bytes = 1_000_000;
    }
    // It would not even hear of it.
    changed.overload_manager.actions = actions.filter(({ name }) => !name.endsWith("stop_accepting_connections"));
    return JSON.stringify(changed);
  };
  await withGateway(
    {},
    async (gateway) => {
      await eventually(async () => (await send(gateway, NEIGHBOUR)).status === 503, "it notices", 5_000);
      const answer = await send(gateway, NEIGHBOUR);
      const { status, code, reason } = errorOf(answer);
      assert.deepEqual([status, code, reason], [503, UNAVAILABLE, "OVERLOADED"]);
      // No filter has seen it, and it has the headers of every answer all the same.
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    },
    starved,
  );
});
