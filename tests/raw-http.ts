import assert from "node:assert/strict";
import { connect } from "node:net";
import type { RestAnswer } from "#tests/rest.ts";

/** HTTP/1.1 byte by byte, for what no client library would send. */

/** Gives up on an answer that does not come. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * Sends bytes as they are; answers what comes back, until it is as long as it says or the connection is closed.
 * @param from a source address of this machine: all of 127.0.0.0/8 are
 */
export function sendRaw(text: string, url: string, from = "127.0.0.1"): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), localAddress: from }, () => socket.write(text));
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error("no answer came")));
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString();
      const [head = "", body] = received.split("\r\n\r\n");
      const length = /content-length: (\d+)/.exec(head)?.[1];
      if (body?.length === Number(length)) socket.destroy();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(received));
  });
}

/** A raw answer as `rest` would give it. */
export function parseRaw(raw: string): RestAnswer {
  const [head = "", text = ""] = raw.split("\r\n\r\n");
  const [statusLine = "", ...lines] = head.split("\r\n");
  assert.match(statusLine, /^HTTP\/1\.1 \d{3} /, `no answer: ${raw}`);
  const headers = new Headers(lines.map((line) => line.split(/: ?(.*)/, 2) as [string, string]));
  return { status: Number(statusLine.split(" ")[1]), headers, text };
}

/** A request of a few headers, and a JSON body if there is one. */
export function requestText(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body?: string,
): string {
  const content = body === undefined ? {} : { "content-type": "application/json", "content-length": `${body.length}` };
  const lines = Object.entries({ host: "a", ...content, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body ?? ""}`;
}
