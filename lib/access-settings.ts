import { TOKEN_ISSUER } from "#lib/access-token.ts";
import { type Environment, requiredSecretFile } from "#lib/environment.ts";

/** What a service needs to know to tell who calls. */
export interface AccessSettings {
  /** `iss` of the tokens. */
  readonly issuer: string;
  /** A public key in PEM whose tokens are taken beside identity's; never in production. */
  readonly developmentKey: string | undefined;
}

const DEVELOPMENT_KEY_FILE = "LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE";

/**
 * Reads LEDGERMESH_TOKEN_ISSUER, and LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE where LEDGERMESH_ENVIRONMENT is `development`.
 * Throws an error for people when a development key is given anywhere else.
 */
export function accessSettings(environment: Environment): AccessSettings {
  const issuer = environment.LEDGERMESH_TOKEN_ISSUER ?? TOKEN_ISSUER;
  if ((environment[DEVELOPMENT_KEY_FILE] ?? "") === "") return { issuer, developmentKey: undefined };
  // What is not said to be a development system is taken for the real one.
  const name = environment.LEDGERMESH_ENVIRONMENT ?? "production";
  if (name !== "development") {
    throw new Error(
      `${DEVELOPMENT_KEY_FILE} is set, and LEDGERMESH_ENVIRONMENT is ${name}: whoever has that key would be anybody. ` +
        "Take it away (only LEDGERMESH_ENVIRONMENT=development may have one)",
    );
  }
  return { issuer, developmentKey: requiredSecretFile(environment, DEVELOPMENT_KEY_FILE).toString() };
}
