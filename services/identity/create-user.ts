import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import {
  type CreateUserRequest,
  type User,
  User_Role,
  type UserSettings,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { bucketOfEmailKey, normalizeEmail } from "#services/identity/email-address.ts";
import { checkCountry, checkName, checkPhone, checkSettings } from "#services/identity/parse-user.ts";
import { checkPasswordLength, normalizePassword, refuseCommonPassword } from "#services/identity/password-rules.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Shard } from "#services/identity/shard.ts";
import { laneOf, takeAttempt } from "#services/identity/take-attempt.ts";
import { tellOfUser } from "#services/identity/tell.ts";
import { toUser } from "#services/identity/user.ts";

const METHOD = "create_user";

export async function createUser(ctx: Context, request: CreateUserRequest, call: Call): Promise<User> {
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const parsed = parse(request);
  const emailKey = ctx.keys.emailKey(parsed.email);
  const bucket = bucketOfEmailKey(emailKey);
  const shard = ctx.shardOfBucket(bucket);
  // Nobody is signed in yet: the address is what strangers cannot share.
  const command = {
    bucket,
    caller: emailKey.toString("base64url"),
    key,
    fingerprint: ctx.keys.fingerprint([METHOD, parsed]),
  };
  return ctx.signUps.run(command.caller, () => signUp(ctx, call, shard, parsed, emailKey, command));
}

async function signUp(
  ctx: Context,
  call: Call,
  shard: Shard,
  parsed: ParsedUser,
  emailKey: Buffer,
  command: SignUpCommand,
): Promise<User> {
  const { bucket } = command;
  // A repeated call costs no hash, but tells of a user.
  takeAttempt(ctx, call);
  const known = await readKey(shard, command);
  if (known !== undefined) return replay(call, command, parsed, known);

  // It costs no hash to say so.
  if (await isUsed(shard, emailKey)) throw refusals.emailAlreadyUsed();
  const passwordHash = await ctx.passwords.hash(parsed.password, laneOf(call));
  const userUuid = idToUuid(ctx.newId("user", bucket));
  const outcome = await insertUser(shard, { ...command, ...parsed, userUuid, emailKey, passwordHash });
  switch (outcome.outcome) {
    case "created":
      return readUser(ctx, { userUuid, bucket });
    case "key_known": {
      const first = await readKey(shard, command);
      // The user has left just now.
      if (first === undefined) throw refusals.shardContended(shard.number);
      return replay(call, command, parsed, first);
    }
    case "email_used":
      throw refusals.emailAlreadyUsed();
  }
}

interface ParsedUser {
  readonly email: string;
  readonly password: string;
  readonly name: string;
  readonly phone: string;
  readonly country: string;
  readonly role: "USER" | "MERCHANT";
  readonly settings: UserSettings;
}

/** Throws INVALID_ARGUMENT with every malformed field. */
function parse(request: CreateUserRequest): ParsedUser {
  const check = new FieldCheck();
  const email = normalizeEmail(request.email);
  const password = normalizePassword(request.password);
  const { name, phone, country } = request;
  check.require(email !== undefined, "email", "must be an e-mail address, such as ada@example.com");
  checkPasswordLength(check, "password", password);
  checkName(check, "name", name);
  checkPhone(check, "phone", phone);
  checkCountry(check, "country", country);
  const role = SIGN_UP_ROLES.get(request.role);
  check.require(role !== undefined, "role", "must be USER or MERCHANT");
  const none = { language: "", timeZone: "", emailOnPayment: false };
  const settings = checkSettings(check, "settings", request.settings ?? none);
  check.done();
  const user = { email: email as string, password, name, phone, country, role: role as "USER" | "MERCHANT", settings };
  refuseCommonPassword("password", password, user.email);
  return user;
}

/** Operators are made by operators. */
const SIGN_UP_ROLES = new Map<number, "USER" | "MERCHANT">([
  [User_Role.ROLE_UNSPECIFIED, "USER"],
  [User_Role.USER, "USER"],
  [User_Role.MERCHANT, "MERCHANT"],
]);

interface SignUpCommand {
  readonly bucket: number;
  readonly caller: string;
  readonly key: string;
  readonly fingerprint: Buffer;
}

interface KnownKey {
  readonly known_user_id: string;
  readonly known_fingerprint: Buffer;
  /** Of the transaction that signed the user up. */
  readonly known_since: Date;
}

/** What a repeated call finds, so that it costs no hash. */
async function readKey(shard: Shard, { bucket, caller, key }: SignUpCommand): Promise<KnownKey | undefined> {
  const [row] = await shard.read<KnownKey>(
    `select k.resource_id as known_user_id, k.fingerprint as known_fingerprint, k.created_at as known_since
       from identity.idempotency_keys k
       join identity.users u on u.user_id = k.resource_id and u.status = 'ACTIVE'
      where k.bucket = $1 and k.caller = $2 and k.method = $3 and k.key = $4`,
    [bucket, caller, METHOD, key],
  );
  return row;
}

async function isUsed(shard: Shard, emailKey: Buffer): Promise<boolean> {
  const rows = await shard.read(
    "select 1 as one from identity.login_directory where email_key = $1 and state = 'ACTIVE'",
    [emailKey],
  );
  return rows.length > 0;
}

/**
 * The first answer, made of the request alone: whoever repeats it has no token, and the user may have another address, name and
 * password by now.
 */
function replay(call: Call, { key, fingerprint }: SignUpCommand, parsed: ParsedUser, known: KnownKey): User {
  if (!known.known_fingerprint.equals(fingerprint)) {
    throw refusals.idempotencyKeyReused(key, uuidToId("user", known.known_user_id));
  }
  call.markReplayed();
  return toUser({
    ...parsed,
    user_id: known.known_user_id,
    status: "ACTIVE",
    version: "1",
    password_changed_at: known.known_since,
    pending_email: null,
  });
}

interface InsertOutcome {
  readonly outcome: "created" | "key_known" | "email_used";
}

async function insertUser(
  shard: Shard,
  user: SignUpCommand & ParsedUser & { userUuid: string; emailKey: Buffer; passwordHash: string },
): Promise<InsertOutcome> {
  return shard.transact(async (db) => {
    const { rows } = await db.query<InsertOutcome>(
      "select outcome from identity.create_user($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
      [
        user.userUuid,
        user.bucket,
        user.role,
        user.email,
        user.emailKey,
        user.passwordHash,
        user.name,
        user.phone,
        user.country,
        JSON.stringify(user.settings),
        user.caller,
        METHOD,
        user.key,
        user.fingerprint,
      ],
    );
    const outcome = rows[0] as InsertOutcome;
    if (outcome.outcome === "created") await tellOfUser(db, user.userUuid, { type: "user_created" });
    return outcome;
  });
}
