import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { request } from "node:https";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { tlsFiles } from "#infra/local/tls-files.ts";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { parseRaw, requestText, sendRaw } from "#tests/raw-http.ts";
import { errorOf } from "#tests/rest.ts";
import { stack, stackName } from "#tests/stack.ts";

/** The door for strangers: TLS 1.3, by the certificate that it was given. */

const ACCOUNT = "/v1/ledger/accounts/acct_1";
const { caFile, certificateFile, keyFile } = tlsFiles(stackName, "gateway");
const ca = readFileSync(caFile);
const ONE_YEAR = "max-age=31536000; includeSubDomains";
let gateway: GatewayProcess;

before(async () => {
  const tls = { address: { host: "127.0.0.1", port: 0 }, certificateFile, keyFile };
  gateway = await startGateway(
    undefined,
    (config) =>
      config.replaceAll('"transport_socket_connect_timeout": "5s"', '"transport_socket_connect_timeout": "0.5s"'),
    { tls },
  );
});

after(() => gateway.stop());

const portOf = (url: string) => Number(new URL(url).port);

/** A handshake; rejects when it fails. */
async function handshake(options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connectTls({ host: "127.0.0.1", port: portOf(gateway.tlsUrl), ca, ...options });
  await once(socket, "secureConnect");
  return socket;
}

test("the stack's own gateway speaks TLS with a certificate of the stack's CA", async () => {
  const answer = await new Promise<{ status: number | undefined; headers: IncomingHttpHeaders }>((resolve, reject) => {
    const call = request(`${stack.gatewayTls}/v1/nothing`, { ca, agent: false }, ({ statusCode, headers }) =>
      resolve({ status: statusCode, headers }),
    );
    call.on("error", reject);
    call.end();
  });
  assert.deepEqual([answer.status, answer.headers["strict-transport-security"]], [404, ONE_YEAR]);
});

test("TLS 1.3 is spoken, and nothing older", async () => {
  const socket = await handshake({});
  assert.equal(socket.getProtocol(), "TLSv1.3");
  assert.equal(socket.authorized, true);
  socket.destroy();
  for (const version of ["TLSv1.2", "TLSv1.1", "TLSv1"] as const) {
    const old = { minVersion: version, maxVersion: version, ciphers: "DEFAULT@SECLEVEL=0" };
    await assert.rejects(
      handshake(old),
      /protocol version|unsupported protocol|no protocols available|ECONNRESET/,
      version,
    );
  }
});

test("both versions of HTTP are offered", async () => {
  for (const [offered, chosen] of [
    [["h2", "http/1.1"], "h2"],
    [["http/1.1"], "http/1.1"],
    [["spdy/3"], false],
  ] as const) {
    const socket = await handshake({ ALPNProtocols: [...offered] });
    assert.equal(socket.alpnProtocol, chosen);
    socket.destroy();
  }
});

test("a browser is told to come back by TLS only, also with an error that Envoy makes of what is no HTTP", async () => {
  const session = connectHttp2(gateway.tlsUrl, { ca });
  const stream = session.request({ ":path": ACCOUNT });
  const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
  assert.deepEqual([headers[":status"], headers["strict-transport-security"]], [200, ONE_YEAR]);
  session.destroy();
  assert.equal(gateway.seen.at(-1)?.headers["x-forwarded-proto"], "https");

  const socket = await handshake({});
  socket.write("NONSENSE\r\n\r\n");
  const [chunk] = (await once(socket, "data")) as [Buffer];
  const answer = parseRaw(chunk.toString());
  assert.deepEqual([errorOf(answer).status, answer.headers.get("strict-transport-security")], [400, ONE_YEAR]);
  socket.destroy();
});

test("plain HTTP is not answered where TLS is spoken, and not told to stay with TLS where it is not", async () => {
  const url = gateway.tlsUrl.replace("https", "http");
  assert.equal(await sendRaw(requestText("GET", ACCOUNT), url).catch(() => ""), "");
  const { headers } = parseRaw(await sendRaw(requestText("GET", ACCOUNT), gateway.url));
  assert.equal(headers.get("strict-transport-security"), null);
});

test("a handshake that does not come about is given up", async () => {
  const socket = connect(portOf(gateway.tlsUrl), "127.0.0.1");
  const begin = performance.now();
  await once(socket, "close");
  assert.ok(performance.now() - begin < 5_000);
});
