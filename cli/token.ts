import { type DevelopmentToken, developmentToken, type TokenRole, tokenRoles } from "#infra/local/development-key.ts";
import { isStackName, stackNames } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { parseId } from "#lib/ids.ts";

/** Makes a token for a local development stack. */
export interface TokenOptions {
  readonly role: string;
  /** `user_…`; absent: the role's own. */
  readonly user?: string;
  /** A service's. */
  readonly name?: string;
  readonly secondFactor: boolean;
  readonly stack: string;
}

/** Who a token is of when nobody is named: nothing has to exist under these ids. */
const USERS: Readonly<Record<Exclude<TokenRole, "service">, string>> = {
  user: "user_01jb800000e00r000000000001",
  merchant: "user_01jb800000em0r000000000002",
  operator: "user_01jb800000f80r000000000003",
};
/** The name that the commands, tests and benches of this machine have. */
const DEFAULT_SERVICE = "console";
const SERVICE_PATTERN = /^[a-z][a-z0-9-]{0,39}$/;

/** Throws a Problem for a role, an id, a name or a stack that does not exist. */
export function makeToken(options: TokenOptions): Promise<DevelopmentToken> {
  const { user, name, stack } = options;
  const role = tokenRoles.find((known) => known === options.role.toLowerCase());
  if (role === undefined) {
    throw new Problem(`There is no role "${options.role}". Mend it: give one of ${tokenRoles.join(", ")}.`);
  }
  if (!isStackName(stack)) {
    throw new Problem(`There is no stack ${stack}. Mend it: use one of ${stackNames.join(", ")}.`);
  }
  const isService = role === "service";
  if (isService && user !== undefined) throw new Problem("A service is no user. Mend it: --name NAME.");
  if (isService && options.secondFactor) throw new Problem("A service has no second factor. Mend it: leave it out.");
  if (!isService && name !== undefined) throw new Problem(`A ${role} has an id, not a name. Mend it: --user user_….`);
  if (user !== undefined && parseId(user, "user") === undefined) {
    throw new Problem(`"${user}" is no id of a user. Mend it: give one of the form user_….`);
  }
  if (name !== undefined && !SERVICE_PATTERN.test(name)) {
    throw new Problem(`"${name}" is no name of a service. Mend it: small letters, digits and hyphens, at most 40.`);
  }
  const subject = isService ? `service:${name ?? DEFAULT_SERVICE}` : (user ?? USERS[role]);
  return developmentToken(stack, role, subject, options.secondFactor || role === "operator");
}

/** One JSON object, and a line end. */
export function tokenJson({ token, role, subject, expires }: DevelopmentToken): string {
  return `${JSON.stringify({ token, role, subject, expire_time: expires.toISOString() })}\n`;
}
