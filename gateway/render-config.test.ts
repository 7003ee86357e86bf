import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readConfig } from "#gateway/config.ts";
import { renderConfig } from "#gateway/render-config.ts";

const ENVIRONMENT = {
  LEDGERMESH_ENVIRONMENT: "development",
  LEDGERMESH_GATEWAY_PORT: "8080",
  LEDGERMESH_GATEWAY_ADMIN_PORT: "8081",
  LEDGERMESH_GATEWAY_KEYS_PORT: "8082",
  LEDGERMESH_LEDGER_ADDRESS: "127.0.0.1:7001",
  LEDGERMESH_REPORTING_ADDRESS: "reporting.internal:7002",
  LEDGERMESH_IDENTITY_ADDRESS: "127.0.0.1:7003",
  LEDGERMESH_TLS_CA_FILE: "/certificates/ca.crt",
  LEDGERMESH_TLS_CERTIFICATE_FILE: "/certificates/gateway.crt",
  LEDGERMESH_TLS_KEY_FILE: "/certificates/gateway.key",
};

interface Rendered {
  readonly admin: { readonly address: Socket };
  readonly static_resources: {
    readonly listeners: readonly { readonly address: Socket; readonly filter_chains: unknown }[];
    readonly clusters: readonly {
      readonly name: string;
      readonly type: string;
      readonly load_assignment: unknown;
      readonly transport_socket: unknown;
    }[];
  };
}

interface Socket {
  readonly socket_address: { readonly address: string; readonly port_value: number };
}

interface Route {
  readonly name?: string;
  readonly match: {
    readonly path?: string;
    readonly safe_regex?: { readonly regex: string };
    readonly prefix?: string;
    readonly headers?: readonly { readonly string_match: { readonly exact?: string } }[];
  };
  readonly route?: { readonly cluster: string; readonly timeout: string };
  readonly direct_response?: { readonly status: number };
}

const rendered = JSON.parse(renderConfig(readConfig(ENVIRONMENT), "/run")) as Rendered;

/** Everything of that name, at any depth. */
function findAll(value: unknown, name: string): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [...(key === name ? [inner] : []), ...findAll(inner, name)]);
}

const routes = findAll(rendered, "routes")[0] as readonly Route[];
const leading = routes.filter(({ name, route }) => route !== undefined && name !== "preflight");

test("it listens on loopback only, admin too", () => {
  const { admin, static_resources } = rendered;
  for (const { address } of [admin, ...static_resources.listeners]) {
    assert.equal(address.socket_address.address, "127.0.0.1");
  }
  assert.equal(admin.address.socket_address.port_value, 8081);
  assert.deepEqual(
    static_resources.listeners.map(({ address }) => address.socket_address.port_value),
    [8080, 8082],
  );
});

test("a service is found at an address, or by name", () => {
  const [ledger, reporting] = rendered.static_resources.clusters;
  assert.deepEqual([ledger?.name, ledger?.type], ["ledger", "STATIC"]);
  assert.deepEqual([reporting?.name, reporting?.type], ["reporting", "STRICT_DNS"]);
  assert.deepEqual(findAll(reporting, "socket_address"), [{ address: "reporting.internal", port_value: 7002 }]);
});

test("it shows its certificate to a service, and asks for the one of that service, by TLS 1.3 alone", () => {
  const services = rendered.static_resources.clusters.filter(({ name }) => name !== "keys");
  assert.equal(services.length, 3);
  for (const { name, transport_socket } of services) {
    assert.deepEqual(findAll(transport_socket, "path"), ["/run/services.json", "/run/services_ca.json"]);
    assert.deepEqual(findAll(transport_socket, "match_typed_subject_alt_names"), [
      [{ san_type: "URI", matcher: { exact: `spiffe://ledgermesh/${name}` } }],
    ]);
    assert.deepEqual(findAll(transport_socket, "tls_minimum_protocol_version"), ["TLSv1_3"]);
  }
});

test("what leads anywhere is what the reviewed document of the API has, each to its service", () => {
  const { paths } = JSON.parse(readFileSync(new URL("openapi.json", import.meta.url), "utf8")) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const described = Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations)
      .filter((key) => ["get", "post", "put", "patch", "delete"].includes(key))
      .map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, "[^/:]+")}`),
  );
  const led = leading.map(({ match, route }) => {
    const method = match.headers?.[0]?.string_match.exact;
    const path = match.path ?? match.safe_regex?.regex.replaceAll("\\.", ".") ?? "";
    const owner = /^\/v1\/(ledger|history)\//.exec(path)?.[1];
    assert.equal(route?.cluster, { ledger: "ledger", history: "reporting" }[owner ?? ""] ?? "identity", path);
    return `${method} ${path}`;
  });
  assert.ok(led.length > 30);
  assert.deepEqual(led.toSorted(), described.toSorted());
  assert.deepEqual(
    routes.slice(-2).map(({ match, direct_response }) => [match, direct_response?.status]),
    [
      [{ prefix: "/" }, 404],
      [{ connect_matcher: {} }, 405],
    ],
  );
});

const KEYS = "127.0.0.1:8082";
const TLS = {
  LEDGERMESH_GATEWAY_TLS_PORT: "8443",
  LEDGERMESH_GATEWAY_CERTIFICATE_FILE: "/certificate.pem",
  LEDGERMESH_GATEWAY_KEY_FILE: "/key.pem",
};
const listenersWith = (settings: Readonly<Record<string, string | undefined>>) =>
  (JSON.parse(renderConfig(readConfig({ ...ENVIRONMENT, ...settings }), "/run")) as Rendered).static_resources
    .listeners;

test("there is a listener for plain HTTP on loopback, one for TLS, or both, and in production only TLS", () => {
  const addressesOf = (settings: Readonly<Record<string, string | undefined>>) =>
    listenersWith(settings).map(({ address: { socket_address: socket } }) => `${socket.address}:${socket.port_value}`);
  assert.deepEqual(addressesOf(TLS), ["127.0.0.1:8080", "127.0.0.1:8443", KEYS]);
  const everywhere = { ...TLS, LEDGERMESH_GATEWAY_TLS_HOST: "0.0.0.0" };
  assert.deepEqual(addressesOf(everywhere), ["127.0.0.1:8080", "0.0.0.0:8443", KEYS]);
  const production = { LEDGERMESH_ENVIRONMENT: "production", LEDGERMESH_GATEWAY_PORT: undefined };
  assert.deepEqual(addressesOf({ ...everywhere, ...production }), ["0.0.0.0:8443", KEYS]);
});

test("TLS is 1.3 and nothing older, and only there browsers are told to stay with it", () => {
  const [plain, secure] = listenersWith(TLS).map(({ filter_chains }) => filter_chains);
  assert.deepEqual(findAll(plain, "tls_params"), []);
  assert.deepEqual(findAll(secure, "tls_params"), [
    { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
  ]);
  const headersOf = (value: unknown) => findAll(value, "key").filter((key) => key === "strict-transport-security");
  assert.equal(headersOf(plain).length, 0);
  assert.ok(headersOf(secure).length > 0);
});

test("unless it is set, no page of another origin is allowed, and nothing is believed of x-forwarded-for", () => {
  assert.deepEqual(findAll(rendered, "allow_origin_string_match"), [[]]);
  assert.deepEqual(findAll(rendered, "xff_num_trusted_hops"), [0]);
});

test("a command has longer than its service's 5 s, and a batch longer than a command", () => {
  const timeouts = new Map(leading.map(({ match, route }) => [match.path, route?.timeout]));
  assert.equal(timeouts.get("/v1/ledger/transfers"), "6s");
  assert.equal(timeouts.get("/v1/ledger/transfers:batch"), "30s");
  assert.deepEqual(findAll(rendered, "max_request_bytes"), [8 * 1024 * 1024, 8 * 1024 * 1024, 64 * 1024]);
});

test("a missing or malformed setting is named", () => {
  const cases: [name: string, value: string | undefined, message: RegExp][] = [
    ["LEDGERMESH_GATEWAY_PORT", undefined, /^LEDGERMESH_GATEWAY_TLS_PORT is not set$/],
    [
      "LEDGERMESH_ENVIRONMENT",
      "production",
      /^LEDGERMESH_GATEWAY_PORT is set, and LEDGERMESH_ENVIRONMENT is production/,
    ],
    ["LEDGERMESH_ENVIRONMENT", undefined, /^LEDGERMESH_GATEWAY_PORT is set, and LEDGERMESH_ENVIRONMENT is production/],
    ["LEDGERMESH_GATEWAY_TLS_PORT", "8443", /^LEDGERMESH_GATEWAY_CERTIFICATE_FILE is not set$/],
    ["LEDGERMESH_GATEWAY_TRUSTED_HOPS", "-1", /^LEDGERMESH_GATEWAY_TRUSTED_HOPS is "-1": not a number from 0 to 8$/],
    ["LEDGERMESH_GATEWAY_SIGN_IN_LIMIT", "30", /^LEDGERMESH_GATEWAY_SIGN_IN_LIMIT is "30": not calls\/seconds/],
    ["LEDGERMESH_GATEWAY_QUERY_LIMIT", "0/1", /^LEDGERMESH_GATEWAY_QUERY_LIMIT is "0\/1": not calls\/seconds/],
    ["LEDGERMESH_GATEWAY_ALLOWED_ORIGINS", "*", /^LEDGERMESH_GATEWAY_ALLOWED_ORIGINS has "\*": not an origin/],
    ["LEDGERMESH_GATEWAY_ALLOWED_ORIGINS", "https://a.example.com/", /has "https:\/\/a.example.com\/": not an origin/],
    ["LEDGERMESH_GATEWAY_ADMIN_PORT", "65536", /^LEDGERMESH_GATEWAY_ADMIN_PORT is "65536": not a port/],
    ["LEDGERMESH_LEDGER_ADDRESS", "127.0.0.1", /^LEDGERMESH_LEDGER_ADDRESS is "127.0.0.1": not host:port$/],
    ["LEDGERMESH_REPORTING_ADDRESS", "a:0", /^LEDGERMESH_REPORTING_ADDRESS is "a:0": not host:port$/],
  ];
  for (const [name, value, message] of cases) {
    assert.throws(() => readConfig({ ...ENVIRONMENT, [name]: value }), { message });
  }
});
