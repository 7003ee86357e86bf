/**
 * Who is behind a call, as far as it was proved. The role decides what may be called (the option `callers` in the contract);
 * the id of a person, what of it.
 */
export type Principal =
  | { readonly role: "ANONYMOUS" }
  | {
      readonly role: "USER" | "MERCHANT" | "OPERATOR";
      /** `user_…` */
      readonly userId: string;
      /** `sess_…`; undefined for a development token, which belongs to no session. */
      readonly sessionId: string | undefined;
      /** Whether this session was opened with a second factor. */
      readonly secondFactor: boolean;
    }
  | {
      readonly role: "SERVICE";
      /** `ledger`, `console`, … */
      readonly name: string;
    };

/** The scope of a caller's idempotency keys, page tokens and lanes: a person's id, or `service:NAME`. */
export function callerOf(principal: Principal): string {
  switch (principal.role) {
    case "ANONYMOUS":
      return "anonymous";
    case "SERVICE":
      return `service:${principal.name}`;
    case "USER":
    case "MERCHANT":
    case "OPERATOR":
      return principal.userId;
  }
}
