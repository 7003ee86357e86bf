import { Agent, request } from "node:http";

/** REST as an application calls it: JSON over kept connections. */
export interface Rest {
  get(path: string, headers?: Readonly<Record<string, string>>): Promise<RestAnswer>;
  post(path: string, body: string, headers: Readonly<Record<string, string>>): Promise<RestAnswer>;
  close(): void;
}

export interface RestAnswer {
  readonly status: number;
  readonly text: string;
  /** Header `x-ledger-position`; empty when there is none. */
  readonly position: string;
}

const TIMEOUT_MS = 10_000;

/** `baseUrl` is such as http://127.0.0.1:8080; calls are made with the access token. Calls beyond `maxConnections` wait for a free one. */
export function openRest(baseUrl: string, token: string, maxConnections: number): Rest {
  const agent = new Agent({ keepAlive: true, maxSockets: maxConnections, scheduling: "fifo" });

  const authorization = `Bearer ${token}`;

  function send(method: string, path: string, body: string, more: Record<string, string>): Promise<RestAnswer> {
    const headers = { authorization, ...more };
    return new Promise((resolve, reject) => {
      const sent = request(`${baseUrl}${path}`, { method, agent, headers, timeout: TIMEOUT_MS }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part;
        });
        const position = String(response.headers["x-ledger-position"] ?? "");
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text, position })).on("error", reject);
      });
      sent.on("timeout", () => sent.destroy(new Error(`${path} did not answer within ${TIMEOUT_MS / 1000} s`)));
      sent.on("error", reject).end(body);
    });
  }

  return {
    get: (path, headers = {}) => send("GET", path, "", { ...headers }),
    post: (path, body, headers) =>
      send("POST", path, body, {
        "content-type": "application/json",
        "content-length": String(Buffer.byteLength(body)),
        ...headers,
      }),
    close: () => agent.destroy(),
  };
}
