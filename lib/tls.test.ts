import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { connect as connectHttp2, type SecureClientSessionOptions } from "node:http2";
import { connect as connectTcp } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { pino } from "pino";
import { register } from "prom-client";
import type { ProcessName } from "#infra/local/tls-files.ts";
import { createAccess } from "#lib/access.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { type Call, type GrpcServer, startGrpcServer, unary } from "#lib/grpc-server.ts";
import { createLogger } from "#lib/log.ts";
import { openTls, type Tls, type TlsFiles } from "#lib/tls.ts";
import { Account, LedgerServiceClient, LedgerServiceService } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type Certificates, makeCertificateOf, makeCertificates } from "#tests/certificates.ts";
import { eventually } from "#tests/eventually.ts";

/** Mutual TLS between processes, with the server and the client that every service uses. */

const DAY_MS = 86_400_000;
const LIFETIME_MS = 90 * DAY_MS;
const UNAVAILABLE = 14;
const CHECK_INTERVAL_MS = 20;
const log = createLogger("test");
log.level = "silent";

let certificates: Certificates;
let foreign: Certificates;
let server: GrpcServer;
/** Who called, in order. */
const callers: string[] = [];
const ended: (() => void)[] = [];

before(async () => {
  certificates = await makeCertificates();
  foreign = await makeCertificates();
  server = await startLedger(openTls(certificates.files("ledger")));
});
afterEach(() => {
  for (const end of ended.splice(0)) end();
});
after(() => server.destroy());

/** A ledger that answers everything, after the rules of the contract about who may call. */
function startLedger(tls: Tls): Promise<GrpcServer> {
  const handler = unary(undefined, log, (_: undefined, { accountId }: { accountId: string }, { peer }: Call) => {
    callers.push(peer);
    return Promise.resolve(Account.fromPartial({ accountId }));
  });
  const handlers = Object.fromEntries(Object.keys(LedgerServiceService).map((name) => [name, handler]));
  const nobody = { principalOf: () => assert.fail("there is no token"), requireNotRevoked: () => assert.fail() };
  const owners = new Proxy({}, { get: () => () => Promise.resolve() });
  return startGrpcServer(
    0,
    [{ definition: LedgerServiceService, handlers, owners, access: createAccess(nobody, nobody) }],
    tls,
  );
}

/** One call with these files; rejects with a CallError. */
async function callWith(files: TlsFiles, { port }: GrpcServer = server): Promise<string> {
  const client = openClient(LedgerServiceClient, `127.0.0.1:${port}`, openTls(files));
  ended.push(() => client.close());
  return (await call(client, client.getAccount, { accountId: "acct_1" })).response.accountId;
}

/** Whether a call was answered on a connection of its own, or that connection broke. */
function isAnswered(options: SecureClientSessionOptions): Promise<boolean> {
  const session = connectHttp2(`https://127.0.0.1:${server.port}`, options);
  ended.push(() => session.destroy());
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": "/nothing", "content-type": "application/grpc" });
  return new Promise((resolve) => {
    stream.once("response", () => resolve(true));
    stream.once("error", () => resolve(false));
    stream.once("close", () => resolve(false));
  });
}

const pemOf = ({ caFile, certificateFile, keyFile }: TlsFiles) => ({
  ca: readFileSync(caFile),
  cert: readFileSync(certificateFile),
  key: readFileSync(keyFile),
});

async function refusedConnections(): Promise<number> {
  const metric = await register.getSingleMetric("grpc_refused_connections_total")?.get();
  return metric?.values[0]?.value ?? 0;
}

test("a process of the stack is known by the name in its certificate", async () => {
  for (const name of ["console", "gateway"] as const) {
    const known = callers.length;
    // The gateway alone has to show a token as well.
    const answered = callWith(certificates.files(name));
    if (name === "gateway") await assert.rejects(answered, { code: 16, reason: "TOKEN_REQUIRED" });
    else {
      assert.equal(await answered, "acct_1");
      assert.deepEqual(callers.slice(known), [name]);
    }
  }
});

test("a process that the contract does not list is refused with its name", async () => {
  const known = callers.length;
  await assert.rejects(callWith(certificates.files("projector")), {
    code: 7,
    reason: "PEER_NOT_ALLOWED",
    message: /projector/,
  });
  assert.equal(callers.length, known);
});

test("no certificate, a stranger's, one that has ended or begins later, an older TLS: no connection", async () => {
  const { ca, cert, key } = pemOf(certificates.files("console"));
  const ofOtherTime = async (nowMs: number) => pemOf((await makeCertificates(nowMs, certificates)).files("console"));
  assert.equal(await isAnswered({ ca, cert, key }), true);
  const refused: [what: string, options: SecureClientSessionOptions][] = [
    ["none", { ca }],
    ["of another CA", { ...pemOf(foreign.files("console")), ca }],
    ["ended", { ...(await ofOtherTime(Date.now() - LIFETIME_MS - 1_000)), ca }],
    ["not yet", { ...(await ofOtherTime(Date.now() + 2 * DAY_MS)), ca }],
    ["of the CA itself", pemOf({ ...certificates.files("console"), ...caAsCertificate() })],
    ["without a process's name", { ca, ...(await makeCertificateOf(certificates, "https://ledgermesh/console")) }],
    ["of another domain", { ca, ...(await makeCertificateOf(certificates, "spiffe://elsewhere/console")) }],
    ["TLS 1.2", { ca, cert, key, maxVersion: "TLSv1.2" }],
  ];
  for (const [what, options] of refused) {
    const before = await refusedConnections();
    assert.equal(await isAnswered(options), false, what);
    await eventually(async () => (await refusedConnections()) > before, `it counts: ${what}`);
  }
  assert.equal(await callWith(certificates.files("console")), "acct_1");
});

function caAsCertificate(): { certificateFile: string; keyFile: string } {
  return { certificateFile: `${certificates.folder}/ca.crt`, keyFile: `${certificates.folder}/ca.key` };
}

test("plain text, and TLS without HTTP/2, are told nothing", async () => {
  const before = callers.length;
  const socket = connectTcp(server.port, "127.0.0.1");
  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  let received = 0;
  socket.on("data", (bytes) => {
    received += bytes.length;
  });
  await new Promise((resolve) => socket.once("error", resolve).once("close", resolve));
  // An alert of TLS at most.
  assert.ok(received <= 7, `${received} bytes came back`);

  const http1 = connectTls({
    port: server.port,
    host: "127.0.0.1",
    ...pemOf(certificates.files("console")),
    ALPNProtocols: ["http/1.1"],
  });
  const failure = await new Promise<NodeJS.ErrnoException>((resolve) => http1.once("error", resolve));
  assert.equal(failure.code, "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL");
  assert.equal(callers.length, before);
});

test("a client calls nobody but the process that it means", async () => {
  for (const [name, of, message] of [
    ["reporting", certificates, /this is reporting, not ledger/],
    ["console", certificates, /this is console, not ledger/],
    ["ledger", foreign, /self-signed certificate in certificate chain|unable to verify/],
  ] as [ProcessName, Certificates, RegExp][]) {
    const impostor = await startLedger(openTls({ ...of.files(name) }));
    ended.push(() => impostor.destroy());
    const before = callers.length;
    await assert.rejects(callWith(certificates.files("console"), impostor), { code: UNAVAILABLE, message });
    assert.equal(callers.length, before);
  }
});

test("no session is resumed: each connection shows its certificate anew", async () => {
  const options = {
    port: server.port,
    host: "127.0.0.1",
    ...pemOf(certificates.files("console")),
    ALPNProtocols: ["h2"],
  };
  const first = connectTls(options);
  let offered: Buffer | undefined;
  first.on("session", (session) => {
    offered = session;
  });
  // What could be resumed comes before the first bytes of HTTP/2.
  await new Promise((resolve) => first.once("data", resolve));
  const again = connectTls({ ...options, session: offered });
  await new Promise((resolve) => again.once("data", resolve));
  assert.equal(again.isSessionReused(), false);
  first.destroy();
  again.destroy();
});

test("certificates that are replaced count from the next connection on, and those that stand go on", async () => {
  const kept = await makeCertificates();
  const tls = openTls(kept.files("ledger"), { checkIntervalMs: CHECK_INTERVAL_MS });
  const ledger = await startLedger(tls);
  ended.push(() => ledger.destroy());
  const clientTls = openTls(kept.files("console"), { checkIntervalMs: CHECK_INTERVAL_MS });
  const standing = openClient(LedgerServiceClient, `127.0.0.1:${ledger.port}`, clientTls);
  ended.push(() => standing.close());
  const ask = async () => (await call(standing, standing.getAccount, { accountId: "acct_1" })).response.accountId;
  assert.equal(await ask(), "acct_1");
  const old = await makeCertificates(Date.now(), kept);

  // Another CA altogether: whoever has not read the files again can call nobody.
  const changed = Promise.all([tls, clientTls].map((each) => new Promise<void>((done) => each.onChange(done))));
  replaceAll(foreign, kept);
  await changed;
  assert.equal(await ask(), "acct_1");
  assert.equal(await callWith(foreign.files("console"), ledger), "acct_1");
  await assert.rejects(callWith(old.files("console"), ledger), { code: UNAVAILABLE });
  standing.close();
  const anew = openClient(LedgerServiceClient, `127.0.0.1:${ledger.port}`, clientTls);
  ended.push(() => anew.close());
  assert.equal((await call(anew, anew.getAccount, { accountId: "acct_2" })).response.accountId, "acct_2");
  const [expiry] = (await register.getSingleMetric("tls_certificate_expiry_timestamp_seconds")?.get())?.values ?? [];
  const end = new X509Certificate(readFileSync(foreign.files("console").certificateFile)).validToDate;
  assert.ok(Math.abs((expiry?.value ?? 0) * 1000 - end.getTime()) < 60_000);
});

function replaceAll(from: Certificates, to: Certificates): void {
  for (const name of ["ledger", "console"] as const) {
    const [source, target] = [from.files(name), to.files(name)];
    copyFileSync(source.caFile, target.caFile);
    copyFileSync(source.keyFile, target.keyFile);
    copyFileSync(source.certificateFile, target.certificateFile);
  }
}

test("while the CA is changed, the old and the new one are believed side by side", async () => {
  const { caFile, ...own } = certificates.files("ledger");
  const both = `${certificates.folder}/both.crt`;
  writeFileSync(both, Buffer.concat([readFileSync(caFile), readFileSync(foreign.files("ledger").caFile)]));
  const ledger = await startLedger(openTls({ ...own, caFile: both }));
  ended.push(() => ledger.destroy());
  for (const { files } of [certificates, foreign]) {
    assert.equal(await callWith({ ...files("console"), caFile: both }, ledger), "acct_1");
  }
});

test("files that cannot be used change nothing, and are said", async () => {
  const kept = await makeCertificates();
  const files = kept.files("ledger");
  const said: string[] = [];
  const listening = pino({}, { write: (line) => void said.push(line) });
  const tls = openTls(files, { log: listening, checkIntervalMs: CHECK_INTERVAL_MS });
  const before = tls.options();
  // Half of a pair, and then nothing that could be read at all.
  copyFileSync(foreign.files("ledger").certificateFile, files.certificateFile);
  await eventually(() => said.length > 0, "the pair that does not fit is noticed");
  writeFileSync(files.certificateFile, "");
  said.length = 0;
  await eventually(() => said.length > 0, "the empty file is noticed");
  assert.match(said[0] ?? "", /replaced by one that cannot be used/);
  assert.equal(tls.options(), before);

  const changed = new Promise<void>((done) => tls.onChange(done));
  replaceAll(foreign, kept);
  await changed;
  assert.notEqual(tls.options(), before);
});

test("a process without its files does not start", async () => {
  const { files } = await makeCertificates();
  assert.throws(() => openTls({ ...files("ledger"), keyFile: files("console").keyFile }), /key values mismatch/);
  assert.throws(() => openTls({ ...files("ledger"), caFile: "nowhere" }), { code: "ENOENT" });
});

test("a connection does not outlive the certificate that it was made with", async () => {
  const { ca } = pemOf(certificates.files("ledger"));
  const soon = await makeCertificates(Date.now() - LIFETIME_MS + 3_000, certificates);
  const session = connectHttp2(`https://127.0.0.1:${server.port}`, { ...pemOf(soon.files("console")), ca });
  ended.push(() => session.destroy());
  await new Promise((resolve, reject) => session.once("remoteSettings", resolve).once("error", reject));
  let isClosed = false;
  session.once("close", () => {
    isClosed = true;
  });
  await eventually(() => isClosed, "the connection is ended", 10_000);
});
