import { createTransport } from "nodemailer";
import { Counter } from "prom-client";
import { uuidToId } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import type { Shard } from "#services/identity/shard.ts";
import { workOnEveryShard } from "#services/identity/shard-worker.ts";

/**
 * Sends what waits in `identity.outgoing_emails`. Many workers may do so: each takes rows that no other holds, puts their next try
 * off before it sends, and deletes what the mail server has taken. Who dies in between sends again, with the same Message-ID.
 */
const INTERVAL_MS = 1_000;
const ROWS_PER_ROUND = 20;
const FIRST_RETRY_SECONDS = 30;
const MAX_RETRY_SECONDS = 3_600;
/** Some three days. */
const MAX_ATTEMPTS = 80;
const SMTP_TIMEOUT_MS = 5_000;

const sent = new Counter({ name: "identity_emails_sent_total", help: "E-mails that the mail server has taken" });
const failed = new Counter({ name: "identity_email_attempts_failed_total", help: "Tries that it has not" });
const givenUp = new Counter({ name: "identity_emails_given_up_total", help: "E-mails that were never taken" });

interface EmailRow {
  readonly email_id: string;
  readonly recipient: string;
  readonly subject: string;
  readonly body: string;
  readonly attempts: number;
}

/** Works on every shard until the signal aborts. */
export async function sendEmails(
  ctx: Context,
  { smtpUrl, from }: { readonly smtpUrl: string; readonly from: string },
  signal: AbortSignal,
): Promise<void> {
  const url = new URL(smtpUrl);
  const timeouts = {
    connectionTimeout: SMTP_TIMEOUT_MS,
    greetingTimeout: SMTP_TIMEOUT_MS,
    socketTimeout: SMTP_TIMEOUT_MS,
  };
  const transport = createTransport({
    host: url.hostname,
    port: Number(url.port),
    secure: url.protocol === "smtps:",
    // Without TLS on loopback only.
    requireTLS: url.protocol === "smtp:" && url.hostname !== "127.0.0.1",
    ...(url.username === ""
      ? {}
      : { auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) } }),
    // A body is text, never a file or a URL to fetch.
    disableFileAccess: true,
    disableUrlAccess: true,
    ...timeouts,
  });
  const domain = from.slice(from.lastIndexOf("@") + 1).replace(">", "");

  async function send(shard: Shard, row: EmailRow): Promise<void> {
    try {
      await transport.sendMail({
        from,
        to: { name: "", address: row.recipient },
        subject: row.subject,
        text: row.body,
        messageId: `<${uuidToId("mail", row.email_id)}@${domain}>`,
        headers: { "Auto-Submitted": "auto-generated" },
      });
      sent.inc();
    } catch (error) {
      failed.inc();
      // The code says what it was; the text may hold the address.
      const { code, responseCode } = error as { code?: string; responseCode?: number };
      ctx.log.warn({ emailId: uuidToId("mail", row.email_id), code, responseCode }, "an e-mail was not taken");
      if (row.attempts < MAX_ATTEMPTS) return;
      givenUp.inc();
    }
    await shard.transact((db) => db.query("delete from identity.outgoing_emails where email_id = $1", [row.email_id]));
  }

  await workOnEveryShard(ctx, signal, {
    intervalMs: INTERVAL_MS,
    wake: ctx.emailWake,
    complaint: "e-mails cannot be sent from the shard; trying again",
    async round(shard) {
      const rows = await takeDue(shard);
      for (const row of rows) if (!signal.aborted) await send(shard, row);
      return rows.length === ROWS_PER_ROUND;
    },
  });
  transport.close();
}

async function takeDue(shard: Shard): Promise<EmailRow[]> {
  return shard.transact(async (db) => {
    const { rows } = await db.query<EmailRow>(
      `update identity.outgoing_emails set attempts = attempts + 1,
              next_at = now() + make_interval(secs => least($1 * 2 ^ least(attempts, 20), $2))
        where email_id in (select email_id from identity.outgoing_emails where next_at <= now()
                            order by next_at, email_id limit $3 for update skip locked)
       returning email_id, recipient, subject, body, attempts`,
      [FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, ROWS_PER_ROUND],
    );
    return rows;
  });
}
