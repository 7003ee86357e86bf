import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { logFile } from "#infra/local/folders.ts";
import { parseId, uuidToId } from "#lib/ids.ts";
import { eventually, newId, postgres, shardNumbers, stackName } from "#tests/stack.ts";
import { messagesTo, newEmail } from "#tests/users.ts";

async function queue(shard: number, recipient: string, body: string): Promise<string> {
  const uuid = parseId(newId("mail", 1), "mail")?.uuid as string;
  await postgres(shard).query(
    `insert into identity.outgoing_emails (email_id, bucket, user_id, recipient, subject, body)
     values ($1, 1, gen_random_uuid(), $2, 'A subject', $3)`,
    [uuid, recipient, body],
  );
  return uuid;
}

const isWaiting = async (shard: number, uuid: string) =>
  (await postgres(shard).query("select from identity.outgoing_emails where email_id = $1", [uuid])).rows.length === 1;

test("what is queued on any shard is sent once, and its row goes", async () => {
  for (const shard of shardNumbers) {
    const email = newEmail();
    const uuid = await queue(shard, email, "The text of it.\n");
    await eventually(async () => !(await isWaiting(shard, uuid)), "the row goes");
    const [message = "", ...others] = await messagesTo(email);
    assert.deepEqual(others, []);
    assert.match(message, /^From: Ledgermesh <no-reply@ledgermesh\.example>\r$/m);
    assert.match(message, new RegExp(`^To: ${email}\\r$`, "m"));
    assert.match(message, /^Message-ID: <mail_[0-9a-z]{26}@ledgermesh\.example>\r$/m);
    assert.match(message, /\r\n\r\nThe text of it\.\r\n$/);
  }
});

test("an address that the mail server refuses waits for another try, and holds up nobody", async () => {
  const refused = await queue(1, "not an address", "x");
  const email = newEmail();
  const uuid = await queue(1, email, "x");
  await eventually(async () => !(await isWaiting(1, uuid)), "the other one is sent");
  await eventually(async () => {
    const { rows } = await postgres(1).query<{ attempts: number; later: boolean }>(
      "select attempts, next_at > now() + interval '20 seconds' as later from identity.outgoing_emails where email_id = $1",
      [refused],
    );
    return rows[0]?.attempts === 1 && rows[0].later;
  }, "it waits");
  // The log says which one, and not whose.
  const id = uuidToId("mail", refused);
  await eventually(() => readFileSync(logFile(stackName, "identity"), "utf8").includes(id), `${id} is in the log`);
  await postgres(1).query("delete from identity.outgoing_emails where email_id = $1", [refused]);
});
