/**
 * The position token (headers `x-ledger-position`, `x-read-after`): what a reader must have seen to see a command.
 * To clients it is opaque; inside it is a list of (shard, event number), known when the command committed.
 */
export interface Position {
  readonly shard: number;
  readonly number: bigint;
}

/** A token names every shard of the system at most once. */
const MAX_POSITIONS = 1024;
const MAX_TOKEN_LENGTH = 16 * 1024;

/** Positions to a token; of several on one shard the highest counts. */
export function encodePosition(positions: readonly Position[]): string {
  const highest = new Map<number, bigint>();
  for (const { shard, number } of positions) {
    const known = highest.get(shard);
    if (known === undefined || known < number) highest.set(shard, number);
  }
  const text = [...highest].map(([shard, number]) => `${shard}:${number}`).join(",");
  return Buffer.from(text).toString("base64url");
}

/** A token to positions, or undefined when it is none of ours. */
export function decodePosition(token: string): Position[] | undefined {
  if (token === "" || token.length > MAX_TOKEN_LENGTH || !/^[A-Za-z0-9_-]+$/.test(token)) return undefined;
  const parts = Buffer.from(token, "base64url").toString("latin1").split(",");
  if (parts.length > MAX_POSITIONS) return undefined;
  const positions: Position[] = [];
  for (const part of parts) {
    const match = /^([1-9][0-9]{0,4}):(0|[1-9][0-9]{0,17})$/.exec(part);
    if (match === null) return undefined;
    positions.push({ shard: Number(match[1]), number: BigInt(match[2] as string) });
  }
  return positions;
}
