import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { copyFileSync, readFileSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { after, test } from "node:test";
import { connect } from "node:tls";
import type { Client } from "@grpc/grpc-js";
import { developmentToken } from "#infra/local/development-key.ts";
import { processNames, tlsFiles } from "#infra/local/tls-files.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { startGrpcServer, unary } from "#lib/grpc-server.ts";
import { createLogger } from "#lib/log.ts";
import { nameOfPeer } from "#lib/peer-name.ts";
import { openTls, type TlsFiles } from "#lib/tls.ts";
import { Account, LedgerServiceClient, LedgerServiceService } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { makeCertificates } from "#tests/certificates.ts";
import { startGateway } from "#tests/gateway-process.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { eventually, newOwner, stack, stackName } from "#tests/stack.ts";

/** The processes of the stack as they run, and Envoy, against whoever is not who they should be. */

const DAY_MS = 86_400_000;
const UNAVAILABLE = 14;
const NOT_ALLOWED = { code: 7, reason: "PEER_NOT_ALLOWED", message: /projector/ };
const servers = { ledger: stack.ledger, identity: stack.identity } as const;
const ended: (() => void)[] = [];

after(() => {
  for (const end of ended) end();
});

function closing<C extends Client>(client: C): C {
  ended.push(() => client.close());
  return client;
}

test("the stack has a certificate for each process in its own name, and shows them to nobody else", () => {
  const ca = new X509Certificate(readFileSync(stack.tls.caFile));
  for (const name of processNames) {
    const files = tlsFiles(stackName, name);
    const certificate = new X509Certificate(readFileSync(files.certificateFile));
    assert.ok(certificate.verify(ca.publicKey), name);
    assert.equal(nameOfPeer(certificate.subjectAltName), name);
    assert.ok(certificate.validToDate.getTime() > Date.now() + 29 * DAY_MS);
    for (const file of Object.values(files)) assert.equal(statSync(file).mode & 0o777, 0o600, file);
    assert.equal(statSync(dirname(files.keyFile)).mode & 0o777, 0o700);
  }
});

test("every gRPC server of the stack shows its own name by TLS 1.3, and answers nobody without a certificate", async () => {
  for (const [name, address] of Object.entries(servers)) {
    const [host = "", port] = address.split(":");
    const ca = readFileSync(stack.tls.caFile);
    const socket = connect({ host, port: Number(port), ca, ALPNProtocols: ["h2"] });
    let received = 0;
    socket.on("data", (bytes) => {
      received += bytes.length;
    });
    const ending = new Promise<NodeJS.ErrnoException>((resolve) => socket.once("error", resolve));
    await new Promise((resolve) => socket.once("secureConnect", resolve));
    assert.equal(socket.getProtocol(), "TLSv1.3");
    assert.equal(nameOfPeer(socket.getPeerX509Certificate()?.subjectAltName), name);
    assert.equal((await ending).code, "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED");
    assert.equal(received, 0);
  }
});

test("a stranger who made certificates of the same names reaches no ledger", async () => {
  const foreign = await makeCertificates();
  for (const files of [
    foreign.files("console"),
    // Their own name, and our CA to believe the ledger by.
    { ...foreign.files("console"), caFile: stack.tls.caFile },
  ]) {
    const client = closing(openClient(LedgerServiceClient, stack.ledger, openTls(files)));
    await assert.rejects(call(client, client.getAccount, { accountId: "acct_1" }), { code: UNAVAILABLE, reason: "" });
  }
});

test("a process that a service does not list is told so, with a token too", async () => {
  const tls = openTls(tlsFiles(stackName, "projector"));
  const { token } = await developmentToken(stackName, "operator", newOwner());
  for (const headers of [{}, { authorization: `Bearer ${token}` }]) {
    const client = closing(openClient(LedgerServiceClient, stack.ledger, tls));
    await assert.rejects(call(client, client.getAccount, { accountId: "acct_1" }, headers), NOT_ALLOWED);
  }
});

test("the gateway sends nothing to a process of another name, or of another CA", async () => {
  const log = createLogger("impostor");
  log.level = "silent";
  const foreign = await makeCertificates();
  for (const files of [tlsFiles(stackName, "reporting"), foreign.files("ledger")]) {
    let calls = 0;
    const handler = unary(undefined, log, () => {
      calls += 1;
      return Promise.resolve(Account.fromPartial({}));
    });
    const handlers = Object.fromEntries(Object.keys(LedgerServiceService).map((name) => [name, handler]));
    const impostor = await startGrpcServer(
      0,
      [{ definition: LedgerServiceService, handlers, access: undefined }],
      openTls(files),
    );
    const gateway = await startGateway(undefined, undefined, { ledger: { host: "127.0.0.1", port: impostor.port } });
    try {
      const error = errorOf(await rest(`${gateway.url}/v1/ledger/accounts/acct_1`));
      assert.deepEqual([error.status, error.code], [503, UNAVAILABLE]);
      assert.equal(calls, 0);
    } finally {
      gateway.stop();
      impostor.destroy();
    }
  }
});

test("a gateway with a stranger's certificate reaches no service", async () => {
  const foreign = await makeCertificates();
  const caFile = stack.tls.caFile;
  const gateway = await startGateway(undefined, undefined, { upstreamTls: { ...foreign.files("gateway"), caFile } });
  try {
    const error = errorOf(await rest(`${gateway.url}/v1/ledger/accounts/acct_1`));
    // TLS 1.3 refuses a client after its first call was sent: Envoy cannot know what became of it.
    assert.deepEqual([error.status, error.reason], [502, "OUTCOME_UNKNOWN"]);
    assert.equal(gateway.seen.length, 0);
  } finally {
    gateway.stop();
  }
});

test("a gateway takes certificates that are replaced, towards services and clients, without a restart", async () => {
  const foreign = await makeCertificates();
  const own = await makeCertificates();
  const files = own.files("gateway");
  const gateway = await startGateway(undefined, undefined, {
    upstreamTls: files,
    tls: { address: { host: "127.0.0.1", port: 0 }, ...foreign.files("reporting") },
  });
  try {
    const ask = async () => (await rest(`${gateway.url}/v1/ledger/accounts/acct_1`)).status;
    assert.notEqual(await ask(), 200);
    replace(tlsFiles(stackName, "gateway"), files);
    await eventually(async () => (await ask()) === 200, "the new certificate and CA are used");

    const port = Number(new URL(gateway.tlsUrl).port);
    const shown = async () => {
      const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
      await new Promise((resolve) => socket.once("secureConnect", resolve));
      const certificate = socket.getPeerX509Certificate();
      socket.destroy();
      return nameOfPeer(certificate?.subjectAltName);
    };
    assert.equal(await shown(), "reporting");
    replace(foreign.files("identity"), foreign.files("reporting"));
    await eventually(async () => (await shown()) === "identity", "clients are shown the new certificate");
  } finally {
    gateway.stop();
  }
});

/** As a renewal does: each file whole or not at all. */
function replace(from: TlsFiles, to: TlsFiles): void {
  for (const name of ["caFile", "keyFile", "certificateFile"] as const) {
    copyFileSync(from[name], `${to[name]}.new`);
    renameSync(`${to[name]}.new`, to[name]);
  }
}
