import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import { Defect } from "#lib/refusal.ts";

/** The person who calls: what an RPC with `owner_field: "self"` works on. */
export interface Self {
  /** `user_…` */
  readonly userId: string;
  readonly userUuid: string;
  readonly bucket: number;
  /** Undefined for a development token. */
  readonly sessionUuid: string | undefined;
}

/** The contract admits persons only where this is asked; anybody else is a defect. */
export function selfOf({ principal }: Call): Self {
  if (principal.role === "ANONYMOUS" || principal.role === "SERVICE")
    throw new Defect(`${principal.role} is no person`);
  const user = parseId(principal.userId, "user");
  if (user === undefined) throw new Defect(`${principal.userId} is no user id`);
  const session = principal.sessionId === undefined ? undefined : parseId(principal.sessionId, "sess");
  return { userId: principal.userId, userUuid: user.uuid, bucket: user.bucket, sessionUuid: session?.uuid };
}
