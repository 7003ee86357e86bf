import { connect, createServer, type Server, type Socket } from "node:net";

/**
 * A network between a ledger and a shard's Postgres that fails on demand: it loses the answer to a commit, or the commit
 * itself, cuts every connection, or swallows what is sent for a while.
 */
export interface FaultyNetwork {
  readonly port: number;
  /** The next commits reach Postgres; the answer to each is lost with the connection. */
  readonly loseAnswers: (count: number) => void;
  /** The next commits are lost on their way, each with the connection. */
  readonly loseCommits: (count: number) => void;
  readonly cut: () => void;
  /** Nothing passes in either direction until `thaw`. */
  readonly freeze: () => void;
  readonly thaw: () => void;
  /** How many commits or answers were lost so far. */
  readonly lost: () => number;
  readonly close: () => void;
}

/** The simple query `commit` of the Postgres protocol: 'Q', length, text, NUL. */
const COMMIT = Buffer.from("Q\0\0\0\x0bcommit\0", "latin1");
/** CommandComplete, and ReadyForQuery outside of a transaction: the commit is done. */
const COMMITTED = Buffer.from("COMMIT\0Z\0\0\0\x05I", "latin1");

export async function openFaultyNetwork(serverPort: number): Promise<FaultyNetwork> {
  const open = new Set<Socket>();
  let next: "lose answer" | "lose commit" = "lose answer";
  let left = 0;
  let frozen = false;
  let lost = 0;

  const server: Server = createServer((client) => {
    const shard = connect(serverPort, "127.0.0.1");
    let dropAnswers = false;
    for (const [one, other] of [
      [client, shard],
      [shard, client],
    ] as const) {
      open.add(one);
      one
        .on("error", () => other.destroy())
        .on("close", () => {
          open.delete(one);
          other.destroy();
        });
      if (frozen) one.pause();
    }
    client.on("data", (bytes) => {
      if (left > 0 && bytes.includes(COMMIT)) {
        lost += 1;
        left -= 1;
        dropAnswers = next === "lose answer";
        if (!dropAnswers) {
          client.destroy();
          return;
        }
      }
      shard.write(bytes);
    });
    shard.on("data", (bytes) => {
      if (!dropAnswers) client.write(bytes);
      else if (bytes.includes(COMMITTED)) client.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the network has no port");
  return {
    port: address.port,
    loseAnswers(count) {
      [next, left] = ["lose answer", count];
    },
    loseCommits(count) {
      [next, left] = ["lose commit", count];
    },
    cut() {
      for (const socket of open) socket.destroy();
    },
    freeze() {
      frozen = true;
      for (const socket of open) socket.pause();
    },
    thaw() {
      frozen = false;
      left = 0;
      for (const socket of open) socket.resume();
    },
    lost: () => lost,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
