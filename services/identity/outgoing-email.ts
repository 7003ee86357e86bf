import type { PoolClient } from "pg";
import { idToUuid } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import type { Self } from "#services/identity/self.ts";

/** E-mails to users: written in the commit that they are about, sent by a worker afterwards (send-emails.ts). */
export interface Email {
  readonly recipient: string;
  readonly subject: string;
  /** Plain text, in lines below 76 characters. */
  readonly body: string;
}

/** Puts an e-mail into the queue. Wake the worker after the commit. */
export async function queueEmail(
  ctx: Context,
  db: PoolClient,
  { userUuid, bucket }: Pick<Self, "userUuid" | "bucket">,
  { recipient, subject, body }: Email,
): Promise<void> {
  await db.query(
    `insert into identity.outgoing_emails (email_id, bucket, user_id, recipient, subject, body)
     values ($1, $2, $3, $4, $5, $6)`,
    [idToUuid(ctx.newId("mail", bucket)), bucket, userUuid, recipient, subject, body],
  );
}

const NOT_YOU = "If this was not you, change your password now and end your sessions.";

export const emails = {
  confirmAddress: (recipient: string, token: string): Email => ({
    recipient,
    subject: "Confirm your e-mail address",
    body: `Somebody, you we hope, wants to sign in to Ledgermesh with this address.
To confirm it, enter this token within 24 hours:

${token}

If this was not you, there is nothing to do: without the token nothing
changes.
`,
  }),

  addressChangeAsked: (recipient: string): Email => ({
    recipient,
    subject: "Another e-mail address was asked for",
    body: `Somebody with your password wants to sign in with another e-mail address
from now on. It has to be confirmed first. ${NOT_YOU}
`,
  }),

  addressChanged: (recipient: string): Email => ({
    recipient,
    subject: "Your e-mail address was changed",
    body: `You sign in with another e-mail address from now on; this one is free.
If this was not you, write to us at once.
`,
  }),

  passwordChanged: (recipient: string): Email => ({
    recipient,
    subject: "Your password was changed",
    body: `Your password was changed, and your other sessions were ended.
If this was not you, write to us at once.
`,
  }),

  closed: (recipient: string): Email => ({
    recipient,
    subject: "You have left Ledgermesh",
    body: `Your accounts are closed, and what we knew about you is erased, this
address included. If this was not you, write to us at once.
`,
  }),
} as const;
