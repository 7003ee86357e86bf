import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { calculateJwkThumbprint } from "jose";
import type { PoolClient } from "pg";
import { Defect } from "#lib/refusal.ts";
import type { Seal } from "#services/identity/seal.ts";

/**
 * The keys that access tokens are signed with (Ed25519), and how they take turns. All are published; one signs.
 *
 *   nothing  -> ACTIVE    the first key of a system
 *   nothing  -> PENDING   so long before its turn that whoever verifies has read of it by then
 *   PENDING  -> ACTIVE    in the same commit as
 *   ACTIVE   -> RETIRED   it signs no more; what it signed is good until it expires
 *   RETIRED  -> nothing   when the last token that anybody can have signed with it is over
 *
 * Every process works on it (the table is locked meanwhile), ages are of the database's clock, and every move is conditional on
 * the state before.
 */
export interface KeyTurns {
  /** How long a key signs. */
  readonly activeMs: number;
  /** How long it is published before. */
  readonly pendingMs: number;
  /** And after: longer than a token lives together with what a process may lag behind (signing-keys.ts). */
  readonly retiredMs: number;
}

interface KeyRow {
  readonly key_id: string;
  readonly state: "PENDING" | "ACTIVE" | "RETIRED";
  /** In this state. */
  readonly age_ms: number;
}

const generate = promisify(generateKeyPair);

/** Makes the moves that are due, within a transaction. Answers whether there were any. */
export async function rotateSigningKeys(db: PoolClient, seal: Seal, turns: KeyTurns): Promise<boolean> {
  await db.query("lock table identity.signing_keys in share row exclusive mode");
  const { rows } = await db.query<KeyRow>(
    `select key_id, state,
            extract(epoch from clock_timestamp() - coalesce(retired_at, activated_at, created_at))::float8 * 1000 as age_ms
       from identity.signing_keys`,
  );
  const active = rows.find(({ state }) => state === "ACTIVE");
  const pending = rows.find(({ state }) => state === "PENDING");
  const over = rows.filter(({ state, age_ms }) => state === "RETIRED" && age_ms >= turns.retiredMs);
  for (const { key_id } of over) await deleteRetired(db, key_id);

  if (active === undefined) {
    if (pending !== undefined) throw new Defect(`the signing key ${pending.key_id} is PENDING, and none is ACTIVE`);
    await insertKey(db, seal, "ACTIVE");
    return true;
  }
  if (pending === undefined) {
    if (active.age_ms < turns.activeMs - turns.pendingMs) return over.length > 0;
    await insertKey(db, seal, "PENDING");
    return true;
  }
  if (active.age_ms < turns.activeMs || pending.age_ms < turns.pendingMs) return over.length > 0;
  await move(db, active.key_id, "ACTIVE", "RETIRED", "retired_at");
  await move(db, pending.key_id, "PENDING", "ACTIVE", "activated_at");
  return true;
}

async function insertKey(db: PoolClient, seal: Seal, state: "PENDING" | "ACTIVE"): Promise<void> {
  const { publicKey, privateKey } = await generate("ed25519");
  const { kty, crv, x } = publicKey.export({ format: "jwk" }) as { kty: string; crv: string; x: string };
  const keyId = await calculateJwkThumbprint({ kty, crv, x });
  await db.query(
    `insert into identity.signing_keys (key_id, state, public_key, private_key_sealed, created_at, activated_at)
     values ($1, $2, $3, $4, clock_timestamp(), case $2 when 'ACTIVE' then clock_timestamp() end)`,
    [
      keyId,
      state,
      JSON.stringify({ kty, crv, x }),
      seal.seal(keyId, privateKey.export({ type: "pkcs8", format: "der" })),
    ],
  );
}

async function move(
  db: PoolClient,
  keyId: string,
  from: KeyRow["state"],
  to: KeyRow["state"],
  since: "activated_at" | "retired_at",
): Promise<void> {
  const { rowCount } = await db.query(
    `update identity.signing_keys set state = $3, ${since} = clock_timestamp() where key_id = $1 and state = $2`,
    [keyId, from, to],
  );
  if (rowCount !== 1) throw new Defect(`the signing key ${keyId} is not ${from}, and cannot become ${to}`);
}

async function deleteRetired(db: PoolClient, keyId: string): Promise<void> {
  await db.query("delete from identity.signing_keys where key_id = $1 and state = 'RETIRED'", [keyId]);
}
