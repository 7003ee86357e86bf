import type { IncomingHttpHeaders } from "node:http2";
import { accessRefusals } from "#lib/access-refusals.ts";
import type { AccessTokens } from "#lib/access-token.ts";
import type { MethodRule } from "#lib/caller-rules.ts";
import type { Principal } from "#lib/principal.ts";
import { malformed, Refusal } from "#lib/refusal.ts";
import type { Revocations } from "#lib/revocations.ts";

/**
 * Who may call what, as the contract says, checked once for every call before its handler runs:
 *
 *   peer     the process that is connected is one that may call this service
 *   token    of a person or a service that the peer acts for; without one, the peer is the caller, unless it is the gateway
 *   role     is one of the method's
 *   factor   operators, and whoever calls what asks for it, have signed in with a second factor
 *   owner    users and merchants reach what is theirs; everything else is answered as if it were not there
 */
export const GATEWAY = "gateway";

export interface Access {
  /**
   * Who is behind a call; at once when nothing has to be looked up. Throws, or rejects with, a Refusal: nobody, or nobody
   * who may call this.
   */
  admit(rule: MethodRule, peer: string, headers: IncomingHttpHeaders): Principal | Promise<Principal>;
}

export function createAccess(tokens: AccessTokens, revocations: Pick<Revocations, "requireNotRevoked">): Access {
  /** Throws, or rejects with, a Refusal for a token that is no good. */
  function principalOf(authorization: string): Principal | Promise<Principal> {
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw accessRefusals.tokenInvalid("the header authorization is not `Bearer TOKEN`");
    const principal = tokens.principalOf(token);
    return principal instanceof Promise ? principal.then(requireSession) : requireSession(principal);
  }

  function requireSession(principal: Principal): Principal {
    if ("sessionId" in principal && principal.sessionId !== undefined) {
      revocations.requireNotRevoked(principal.sessionId);
    }
    return principal;
  }

  return {
    admit(rule, peer, { authorization }) {
      if (!rule.peers.has(peer) || (rule.internal && peer === GATEWAY)) {
        throw accessRefusals.peerNotAllowed(rule.name, peer);
      }
      const anybody = rule.roles.has("ANONYMOUS");
      if (authorization === undefined) {
        if (peer !== GATEWAY) return requireRole(rule, { role: "SERVICE", name: peer });
        if (anybody) return ANONYMOUS;
        throw accessRefusals.tokenRequired();
      }
      try {
        const principal = principalOf(authorization);
        if (!(principal instanceof Promise)) return requireRole(rule, principal);
        const admitted = principal.then((known) => requireRole(rule, known));
        return anybody ? admitted.catch(withoutToken) : admitted;
      } catch (error) {
        if (anybody) return withoutToken(error);
        throw error;
      }
    },
  };
}

/** RFC 6750; the scheme's name in any case. */
const BEARER = /^bearer ([\w-]+\.[\w-]+\.[\w-]+)$/i;
const ANONYMOUS: Principal = { role: "ANONYMOUS" };

/** What is open to anybody is open to those with a bad token too: to sign in again, for example. */
function withoutToken(error: unknown): Principal {
  if (error instanceof Refusal) return ANONYMOUS;
  throw error;
}

/** Throws a Refusal when the principal has not the role, or not the second factor, that the method needs. */
function requireRole(rule: MethodRule, principal: Principal): Principal {
  const { role } = principal;
  if (!rule.roles.has(role) && !rule.roles.has("ANONYMOUS")) throw accessRefusals.roleNotAllowed(rule.name, role);
  if (!("userId" in principal) || principal.secondFactor) return principal;
  const needed = rule.secondFactor || (role === "OPERATOR" && !rule.beforeSecondFactor);
  if (needed) throw accessRefusals.secondFactorRequired(rule.name);
  return principal;
}

/**
 * What the caller must own, by the request: for users and merchants, the id in the method's owner field. Undefined when
 * nothing is asked. Throws a Refusal when the field is empty: whoever may see all of them may leave it out.
 */
export function ownedThing(
  rule: MethodRule,
  principal: Principal,
  request: unknown,
): { readonly id: string; readonly userId: string } | undefined {
  if (principal.role !== "USER" && principal.role !== "MERCHANT") return undefined;
  if (rule.ownerProperty === "") return undefined;
  const id = (request as Readonly<Record<string, unknown>>)[rule.ownerProperty];
  if (typeof id === "string" && id !== "") return { id, userId: principal.userId };
  throw malformed([{ field: rule.ownerField, description: "is required: name one of your own" }]);
}
