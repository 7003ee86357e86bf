import { openCertificate } from "#cli/endpoints.ts";
import { Problem } from "#infra/local/problem.ts";
import { CallError, call, openClient } from "#lib/grpc-client.ts";
import { IdentityServiceClient, type User, User_Role } from "#proto/ledgermesh/identity/v1/identity.ts";

const DEADLINE_MS = 10_000;

/**
 * Gives a user the role of an operator, or takes it away, through identity at host:port. Only who can read the console's key may do
 * so. Throws a Problem when it is refused.
 */
export async function setOperator(identity: string, email: string, change: "grant" | "withdraw"): Promise<User> {
  const client = openClient(IdentityServiceClient, identity, openCertificate());
  const role = change === "grant" ? User_Role.OPERATOR : User_Role.USER;
  try {
    return (await call(client, client.grantRole, { email, role }, {}, DEADLINE_MS)).response;
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    throw new Problem(
      `It was refused: ${error.message} (${error.reason === "" ? `code ${error.code}` : error.reason})`,
    );
  } finally {
    client.close();
  }
}
