import { constants as cryptoConstants } from "node:crypto";
import {
  constants,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from "node:http2";
import { type AddressInfo, isIP } from "node:net";
import type { TLSSocket } from "node:tls";
import { type ServiceDefinition, status } from "@grpc/grpc-js";
import { Counter } from "prom-client";
import { type Access, GATEWAY, ownedThing } from "#lib/access.ts";
import { callerRule } from "#lib/caller-rules.ts";
import { refuseCardData } from "#lib/card-data.ts";
import { internalError, refusalTrailers, statusTrailers } from "#lib/grpc-status.ts";
import type { Logger } from "#lib/log.ts";
import { nameOfPeer } from "#lib/peer-name.ts";
import { callerOf, type Principal } from "#lib/principal.ts";
import { Refusal } from "#lib/refusal.ts";
import type { Tls } from "#lib/tls.ts";

/**
 * The gRPC server: unary calls over HTTP/2 as the protocol says
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), straight on Node's http2, which takes about two thirds of the
 * processor time per call of grpc-js's server (docs/decisions/0013-own-grpc-server.md). Also the one place where headers are read
 * and written.
 *
 * A call:  headers -> refused at once (too many under way, no such method, not gRPC)
 *          headers -> body -> handler -> answered
 *          headers -> body -> ended     the client went away, was too slow or sent too much
 */

/** The largest request: a full batch (api.md). */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;
/** An account page or a batch answer may be larger than the request. */
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;
const MAX_CONCURRENT_CALLS_PER_CONNECTION = 10_000;
/** Beyond so many calls under way, the next is refused before its body is read: it would only wait past its deadline. */
const MAX_CALLS_UNDER_WAY = 1_000;
/** Bodies that are being received, all calls together. */
const MAX_RECEIVING_BYTES = 128 * 1024 * 1024;
const OVERLOAD_RETRY_AFTER_MS = 500;
/** From the headers to the end of the body. */
const RECEIVE_TIMEOUT_MS = 10_000;
const SWEEP_INTERVAL_MS = 1_000;
/** Room for a whole batch without waiting for the other side's windows to open. */
const WINDOW_BYTES = 1024 * 1024;
const MAX_HEADER_BYTES = 16 * 1024;
/** gRPC's frame around a message: a flag for compression, and the length. */
const FRAME_HEADER_BYTES = 5;

/** What is looked at for card data: no more is ever kept. A longer key is refused by who reads it. */
const MAX_KEY_CHARACTERS_SEEN = 129;
const MAX_USER_AGENT_CHARACTERS_SEEN = 256;

/** How long a connection may take to show who it is. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
const HTTP2_OPTIONS: ServerOptions = {
  settings: {
    maxConcurrentStreams: MAX_CONCURRENT_CALLS_PER_CONNECTION,
    initialWindowSize: WINDOW_BYTES,
    maxHeaderListSize: MAX_HEADER_BYTES,
    enablePush: false,
  },
  // In MB; Node would end calls beyond 10 of them. What is received is bounded by MAX_RECEIVING_BYTES.
  maxSessionMemory: Number.MAX_SAFE_INTEGER,
};

const refusedConnections = new Counter({
  name: "grpc_refused_connections_total",
  help: "Connections refused for the certificate that they showed, or did not show",
});
const refusedCalls = new Counter({
  name: "grpc_refused_calls_total",
  help: "Calls refused because too many were under way",
});

/** What a handler may know of, and add to, the call that it answers. */
export interface Call {
  /** The process that is connected, by its certificate's name. */
  readonly peer: string;
  /** On whose behalf. */
  readonly principal: Principal;
  /** The scope of idempotency keys and page tokens (`callerOf`). */
  readonly caller: string;
  /** When the caller stops waiting, on the clock of `performance.now()`; undefined when they did not say. */
  readonly deadlineMs: number | undefined;
  /** The W3C trace context; undefined when absent or malformed. */
  readonly traceparent: string | undefined;
  /** The address of the client at the edge, as the gateway saw it; undefined for calls that came another way. */
  readonly clientAddress: string | undefined;
  /** The header `idempotency-key`; undefined when absent. */
  readonly idempotencyKey: string | undefined;
  /** The header `x-read-after`; undefined when absent. */
  readonly readAfter: string | undefined;
  readonly headers: IncomingHttpHeaders;
  /** Header `x-ledger-position` of the answer. */
  setPosition(token: string): void;
  /** Header `idempotent-replayed: true` of the answer. */
  markReplayed(): void;
}

export type Handler<Context, Request, Response> = (context: Context, request: Request, call: Call) => Promise<Response>;

/** A handler with its context, for the server to call. Rejects with a Refusal, or with a bug. */
export interface UnaryMethod {
  readonly log: Logger;
  readonly answer: (request: unknown, call: Call) => Promise<unknown>;
}

/** Binds a handler to its context. Bugs go to the log; callers see INTERNAL. */
export function unary<Context, Request, Response>(
  context: Context,
  log: Logger,
  handler: Handler<Context, Request, Response>,
): UnaryMethod {
  return { log, answer: (request, call) => handler(context, request as Request, call) };
}

export interface GrpcServer {
  readonly port: number;
  /** Refuses new calls and waits for those under way. */
  stop(): Promise<void>;
  /** Breaks every connection. */
  destroy(): void;
}

/** A service of the contract, as a process serves it. */
export interface ServedService {
  readonly definition: ServiceDefinition;
  readonly handlers: Readonly<Record<string, UnaryMethod>>;
  /** Who may call. Undefined, for stand-ins: whoever is connected, everything. */
  readonly access: Access | undefined;
  /** By the owner fields that its methods name in the contract, `self` aside. */
  readonly owners?: Readonly<Record<string, RequireOwner>>;
}

/** Rejects with the Refusal of a thing that is not there, text and all, when it is not the user's. */
export type RequireOwner = (id: string, userId: string, call: Call) => Promise<void>;

/** One method of a service of the contract. */
interface Method extends UnaryMethod {
  readonly path: string;
  readonly admit: (peer: string, headers: IncomingHttpHeaders) => Principal | Promise<Principal>;
  readonly requireOwner: (request: unknown, call: Call) => Promise<void> | undefined;
  readonly decode: (bytes: Buffer) => unknown;
  readonly encode: (message: unknown) => Buffer;
}

/**
 * Starts a server on loopback; port 0 takes a free one. Throws when the port is taken. Without `tls` whoever connects is the
 * peer `console`: that is for measuring what TLS costs, and nothing else.
 */
export async function startGrpcServer(
  port: number,
  services: readonly ServedService[],
  tls: Tls | undefined,
): Promise<GrpcServer> {
  const methods = new Map(services.flatMap(methodsOf).map((method) => [method.path, method]));
  const server = tls === undefined ? createServer(HTTP2_OPTIONS) : secureServer(tls);
  const sessions = new Map<ServerHttp2Session, Peer>();
  const calls = new CallsUnderWay();
  server.on("session", (session: ServerHttp2Session) => {
    // A connection that breaks ends its calls; that is all there is to do.
    session.on("error", () => {});
    const peer = tls === undefined ? ANYBODY : peerOf(session);
    if (peer === undefined) {
      refusedConnections.inc();
      session.destroy();
      return;
    }
    sessions.set(session, peer);
    session.setLocalWindowSize(WINDOW_BYTES);
    session.once("close", () => sessions.delete(session));
    session.on("stream", (stream, headers) => {
      // A client that goes away, or a protocol error of its own.
      stream.on("error", () => {});
      accept(stream, peer.name, headers, methods, calls);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      server.off("error", reject);
      resolve();
    });
  });
  const sweeper = setInterval(() => {
    calls.endSlow();
    for (const [session, { endsAtMs }] of sessions) if (endsAtMs < Date.now()) session.close();
  }, SWEEP_INTERVAL_MS);
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // Sends GOAWAY: calls under way end, new ones go elsewhere.
      for (const session of sessions.keys()) session.close();
      await closed;
      clearInterval(sweeper);
    },
    destroy() {
      server.close();
      clearInterval(sweeper);
      for (const session of sessions.keys()) session.destroy();
    },
  };
}

/** Both sides show a certificate of the CA, or there is no connection. */
function secureServer(tls: Tls): Http2SecureServer {
  const server = createSecureServer({
    ...HTTP2_OPTIONS,
    ...tls.options(),
    ALPNProtocols: ["h2"],
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    // No session is resumed: every connection shows its certificate anew, so that one that has ended opens none.
    secureOptions: cryptoConstants.SSL_OP_NO_TICKET,
  });
  server.on("tlsClientError", () => refusedConnections.inc());
  const stop = tls.onChange(() =>
    server.setSecureContext({ ...tls.options(), secureOptions: cryptoConstants.SSL_OP_NO_TICKET }),
  );
  server.once("close", stop);
  return server;
}

/** Who is connected, and until when its certificate is good: a connection does not outlive it. */
interface Peer {
  readonly name: string;
  readonly endsAtMs: number;
}

const ANYBODY: Peer = { name: "console", endsAtMs: Number.POSITIVE_INFINITY };

/** Undefined for a certificate of the CA that names no process. */
function peerOf(session: ServerHttp2Session): Peer | undefined {
  const certificate = (session.socket as TLSSocket).getPeerX509Certificate();
  const name = nameOfPeer(certificate?.subjectAltName);
  if (certificate === undefined || name === undefined) return undefined;
  return { name, endsAtMs: certificate.validToDate.getTime() };
}

/** Throws when a method of the contract has no handler, no caller rule, or an owner field that nobody can check. */
function methodsOf({ definition, handlers, access, owners = {} }: ServedService): Method[] {
  return Object.entries(definition).map(([name, { path, requestDeserialize, responseSerialize }]) => {
    const handler = handlers[name];
    if (handler === undefined) throw new Error(`${path} has no handler`);
    const method = { ...handler, path, decode: requestDeserialize, encode: responseSerialize };
    if (access === undefined) {
      return { ...method, admit: (peer) => ({ role: "SERVICE", name: peer }), requireOwner: () => undefined };
    }
    const rule = callerRule(path);
    const requireOwner = owners[rule.ownerField];
    if (rule.ownerProperty !== "" && requireOwner === undefined) {
      throw new Error(`${path}: nobody knows whose ${rule.ownerField} is`);
    }
    return {
      ...method,
      admit: (peer, headers) => access.admit(rule, peer, headers),
      requireOwner(request, call) {
        const owned = ownedThing(rule, call.principal, request);
        return owned && requireOwner?.(owned.id, owned.userId, call);
      },
    };
  });
}

/** Counts what is under way, and ends what takes too long to arrive. */
class CallsUnderWay {
  /** Accepted, and not yet answered and gone: a client that goes away does not end the work on its call. */
  count = 0;
  receivingBytes = 0;
  readonly #receiving = new Map<ServerHttp2Stream, number>();

  begin(stream: ServerHttp2Stream): void {
    this.count += 1;
    this.#receiving.set(stream, performance.now());
  }

  received(stream: ServerHttp2Stream, bytes: number): void {
    this.receivingBytes -= bytes;
    this.#receiving.delete(stream);
  }

  ended(): void {
    this.count -= 1;
  }

  endSlow(): void {
    const before = performance.now() - RECEIVE_TIMEOUT_MS;
    for (const [stream, sinceMs] of this.#receiving) {
      if (sinceMs > before) break;
      endWith(stream, status.DEADLINE_EXCEEDED, "The request did not arrive in time.");
      stream.close(constants.NGHTTP2_CANCEL);
    }
  }
}

/** Decides by the headers alone whether a call is taken. */
function accept(
  stream: ServerHttp2Stream,
  peer: string,
  headers: IncomingHttpHeaders,
  methods: ReadonlyMap<string, Method>,
  calls: CallsUnderWay,
): void {
  const refusal = refuseByHeaders(headers);
  if (refusal !== undefined) {
    stream.respond({ ":status": refusal }, { endStream: true });
    stream.resume();
    return;
  }
  const method = methods.get(headers[":path"] ?? "");
  const encoding = headers["grpc-encoding"];
  if (method === undefined) refuseEarly(stream, status.UNIMPLEMENTED, `There is no method ${headers[":path"]}.`);
  else if (encoding !== undefined && encoding !== "identity") {
    refuseEarly(stream, status.UNIMPLEMENTED, `Compression by ${encoding} is not supported.`);
  } else if (calls.count >= MAX_CALLS_UNDER_WAY || calls.receivingBytes >= MAX_RECEIVING_BYTES) {
    refusedCalls.inc();
    end(stream, TOO_MANY_CALLS);
    stream.resume();
  } else {
    calls.begin(stream);
    receive(stream, calls, (bytes) => answer(stream, peer, headers, method, bytes));
  }
}

/** The HTTP status for what is not gRPC at all. */
function refuseByHeaders(headers: IncomingHttpHeaders): number | undefined {
  if (headers[":method"] !== "POST") return constants.HTTP_STATUS_METHOD_NOT_ALLOWED;
  if (!/^application\/grpc($|[+;])/.test(headers["content-type"] ?? "")) {
    return constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE;
  }
  return undefined;
}

function refuseEarly(stream: ServerHttp2Stream, code: number, message: string): void {
  endWith(stream, code, message);
  stream.resume();
}

/** Collects the one message of a unary call. */
function receive(stream: ServerHttp2Stream, calls: CallsUnderWay, then: (message: Buffer) => Promise<void>): void {
  const chunks: Buffer[] = [];
  let size = 0;
  let isRefused = false;
  let answered: Promise<void> | undefined;
  const refuse = () => {
    isRefused = true;
    calls.received(stream, size);
    size = 0;
    chunks.length = 0;
  };
  stream.on("data", (chunk: Buffer) => {
    if (isRefused) return;
    chunks.push(chunk);
    size += chunk.length;
    calls.receivingBytes += chunk.length;
    if (size > MAX_REQUEST_BYTES + FRAME_HEADER_BYTES) {
      endWith(stream, status.RESOURCE_EXHAUSTED, `The request is larger than ${MAX_REQUEST_BYTES} bytes.`);
      refuse();
    } else if (calls.receivingBytes > MAX_RECEIVING_BYTES) {
      // All of them were taken by their headers, when nobody knew how long they are.
      refusedCalls.inc();
      end(stream, TOO_MANY_CALLS);
      refuse();
    }
  });
  stream.once("close", () => {
    // Of a body that never ended.
    calls.received(stream, size);
    if (answered === undefined) calls.ended();
    else void answered.then(() => calls.ended());
  });
  stream.once("end", () => {
    calls.received(stream, size);
    const [first] = chunks;
    const bytes = chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
    size = 0;
    if (stream.headersSent || isGone(stream)) return;
    if (bytes.length < FRAME_HEADER_BYTES || bytes.readUInt32BE(1) !== bytes.length - FRAME_HEADER_BYTES) {
      endWith(stream, status.INTERNAL, "The body is not one whole gRPC message.");
    } else if (bytes[0] !== 0) {
      endWith(stream, status.UNIMPLEMENTED, "Compressed messages are not supported.");
    } else {
      answered = then(bytes.subarray(FRAME_HEADER_BYTES));
    }
  });
}

/** Resolves when the handler is done, whether the client still waits for it or not. */
async function answer(
  stream: ServerHttp2Stream,
  peer: string,
  headers: IncomingHttpHeaders,
  method: Method,
  bytes: Buffer,
): Promise<void> {
  let answerHeaders: OutgoingHttpHeaders | undefined;
  try {
    const admitted = method.admit(peer, headers);
    const principal = admitted instanceof Promise ? await admitted : admitted;
    const request = decode(method, bytes);
    if (request === undefined) {
      endWith(stream, status.INTERNAL, "The body is not the Protobuf message of this method.");
      return;
    }
    const idempotencyKey = headerText(headers, "idempotency-key");
    const refused = refuseCardData(bytes, request, {
      idempotency_key: idempotencyKey?.slice(0, MAX_KEY_CHARACTERS_SEEN),
      "user-agent": headerText(headers, "user-agent")?.slice(0, MAX_USER_AGENT_CHARACTERS_SEEN),
    });
    if (refused !== undefined) throw refused;
    const call: Call = {
      peer,
      principal,
      caller: callerOf(principal),
      idempotencyKey,
      readAfter: headerText(headers, "x-read-after"),
      deadlineMs: deadlineOf(headers),
      traceparent: traceparentOf(headers),
      clientAddress: peer === GATEWAY ? clientAddressOf(headers) : undefined,
      headers,
      setPosition(token) {
        answerHeaders ??= { ...GRPC_HEADERS };
        answerHeaders["x-ledger-position"] = token;
      },
      markReplayed() {
        answerHeaders ??= { ...GRPC_HEADERS };
        answerHeaders["idempotent-replayed"] = "true";
      },
    };
    const owned = method.requireOwner(request, call);
    if (owned !== undefined) await owned;
    const response = method.encode(await method.answer(request, call));
    respond(stream, response, answerHeaders ?? GRPC_HEADERS);
  } catch (error) {
    const refusal = error instanceof Refusal ? error : internalError;
    if (refusal === internalError) method.log.error({ err: error, method: method.path }, "a call failed");
    // Headers of an answer that was not sent promise nothing about what is sent instead.
    endRefused(stream, refusal, refusal === internalError ? undefined : answerHeaders);
  }
}

/** Undefined when the bytes are not the method's message. */
function decode(method: Method, bytes: Buffer): unknown {
  try {
    return method.decode(bytes);
  } catch {
    return undefined;
  }
}

/** What is left of `grpc-timeout` (at most eight digits and a unit), as a time of `performance.now()`. */
function deadlineOf(headers: IncomingHttpHeaders): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(headerText(headers, "grpc-timeout") ?? "");
  if (match === null) return undefined;
  return performance.now() + Number(match[1]) * (TIMEOUT_UNITS_MS[match[2] as string] as number);
}

const TIMEOUT_UNITS_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

function traceparentOf(headers: IncomingHttpHeaders): string | undefined {
  const text = headerText(headers, "traceparent");
  return text !== undefined && TRACEPARENT_PATTERN.test(text) ? text : undefined;
}

/** https://www.w3.org/TR/trace-context/: version 00, ids that are not zero. */
const TRACEPARENT_PATTERN = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

function clientAddressOf(headers: IncomingHttpHeaders): string | undefined {
  const text = headerText(headers, "x-envoy-external-address") ?? "";
  return isIP(text) === 0 ? undefined : text;
}

/** A header of ASCII text; of several headers of one name, Node joins the values, which matches nothing we ask for. */
function headerText(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value.join(",") : value;
}

function respond(stream: ServerHttp2Stream, message: Buffer, headers: OutgoingHttpHeaders): void {
  if (message.length > MAX_RESPONSE_BYTES) {
    endWith(stream, status.RESOURCE_EXHAUSTED, `The answer is larger than ${MAX_RESPONSE_BYTES} bytes: ask for less.`);
    return;
  }
  // The client has gone away; what was done is done, and its next try finds it.
  if (isGone(stream)) return;
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_HEADER_BYTES);
  stream.respond(headers, WITH_TRAILERS);
  stream.once("wantTrailers", () => stream.sendTrailers(OK_TRAILERS));
  stream.end(frame);
}

const GRPC_HEADERS: OutgoingHttpHeaders = {
  ":status": constants.HTTP_STATUS_OK,
  "content-type": "application/grpc+proto",
  "grpc-accept-encoding": "identity",
};

const OK_TRAILERS: OutgoingHttpHeaders = { "grpc-status": "0" };
/** gRPC has no use for a date. */
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false };
const TRAILERS_ONLY = { endStream: true, sendDate: false };

/** A stream that the client has reset is closed, and destroyed only when its body was read: to answer it in between throws. */
function isGone(stream: ServerHttp2Stream): boolean {
  return stream.closed || stream.destroyed;
}

/** A refusal as trailers; behind headers of its own when there are some, since clients tell the two apart. */
function endRefused(stream: ServerHttp2Stream, refusal: Refusal, headers: OutgoingHttpHeaders | undefined): void {
  end(stream, refusalTrailers(refusal), headers);
}

function endWith(stream: ServerHttp2Stream, code: number, message: string): void {
  end(stream, statusTrailers(code, message));
}

/** Ends a call with a status, unless it has been answered or the client is gone. */
function end(stream: ServerHttp2Stream, trailers: OutgoingHttpHeaders, headers?: OutgoingHttpHeaders): void {
  if (isGone(stream) || stream.headersSent) return;
  if (headers === undefined) {
    stream.respond({ ...GRPC_HEADERS, ...trailers }, TRAILERS_ONLY);
    return;
  }
  stream.respond(headers, WITH_TRAILERS);
  stream.once("wantTrailers", () => stream.sendTrailers(trailers));
  stream.end();
}

/** Made once: whoever has too much to do must not spend it on refusing. Nothing of the call was read: it may be repeated. */
const TOO_MANY_CALLS = refusalTrailers(
  new Refusal(
    "RESOURCE_EXHAUSTED",
    "TOO_MANY_CALLS",
    `${MAX_CALLS_UNDER_WAY} calls are under way already. Nothing has happened; try again.`,
    { retryAfterMs: OVERLOAD_RETRY_AFTER_MS },
  ),
);
