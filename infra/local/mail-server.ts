import { createServer } from "node:http";
import { SMTPServer } from "smtp-server";
import { mailPorts } from "#infra/local/config.ts";

/**
 * The mail server of a local stack: takes every message by SMTP, sends none on, and keeps the newest to be read over HTTP:
 * `GET /messages?to=ADDRESS` answers them, oldest first, as they came over the wire.
 */
const HOST = "127.0.0.1";
const MAX_MESSAGES = 1_000;
const MAX_MESSAGE_BYTES = 256 * 1024;

interface Message {
  readonly to: readonly string[];
  readonly text: string;
}

const messages: Message[] = [];
const ports = mailPorts();

const smtp = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS", "AUTH"],
  disableReverseLookup: true,
  size: MAX_MESSAGE_BYTES,
  logger: false,
  onData(stream, session, done) {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      if (stream.sizeExceeded) {
        done(Object.assign(new Error(`A message has at most ${MAX_MESSAGE_BYTES} bytes.`), { responseCode: 552 }));
        return;
      }
      messages.push({
        to: session.envelope.rcptTo.map(({ address }) => address),
        text: Buffer.concat(chunks).toString("utf8"),
      });
      if (messages.length > MAX_MESSAGES) messages.shift();
      done();
    });
  },
});
// A client that breaks off.
smtp.on("error", () => {});

const http = createServer((request, response) => {
  const url = new URL(request.url ?? "/", `http://${HOST}`);
  response.setHeader("content-type", "application/json");
  if (url.pathname === "/healthz") response.end(JSON.stringify({ status: "ok" }));
  else if (url.pathname === "/messages") {
    const to = url.searchParams.get("to");
    response.end(JSON.stringify(messages.filter((message) => to === null || message.to.includes(to))));
  } else response.writeHead(404).end("{}");
});

smtp.listen(ports.smtp, HOST, () => http.listen(ports.http, HOST));
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.once(name, () => {
    http.close();
    smtp.close(() => process.exit(0));
  });
}
