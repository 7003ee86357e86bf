import { randomBytes } from "node:crypto";
import { Problem } from "#infra/local/problem.ts";

/** People of the demo who are real users: they sign up and in over REST, as anybody does. */
export interface Resident {
  /** `user_…` */
  readonly userId: string;
  readonly email: string;
  readonly password: string;
}

const CALL_TIMEOUT_MS = 10_000;
const PASSWORD_BYTES = 12;
const COUNTRY = "CZ";
/** The gateway is there, and the service behind it is not. */
const AWAY_STATUSES = [502, 503, 504];

/**
 * Signs somebody up; undefined when there is no gateway, or no identity service behind it. `run` and `name` make the address.
 * Throws a Problem when it is refused.
 */
export async function signUp(
  gateway: string,
  run: string,
  name: string,
  signal: AbortSignal,
): Promise<Resident | undefined> {
  const email = `${name.toLowerCase().replaceAll(/[^a-z]/g, "")}-${run}@demo.example`;
  const password = randomBytes(PASSWORD_BYTES).toString("base64url");
  const user = { email, password, name, country: COUNTRY };
  const answer = await post(`${gateway}/v1/users`, user, signal, {
    "idempotency-key": `demo/${run}/${encodeURIComponent(name)}`,
  });
  if (answer === undefined) return undefined;
  return { userId: String(answer.user_id), email, password };
}

/** A new access token; undefined when nobody answers. Throws a Problem when it is refused. */
export async function signIn(
  gateway: string,
  { email, password }: Resident,
  signal: AbortSignal,
): Promise<string | undefined> {
  const answer = await post(`${gateway}/v1/sessions`, { email, password }, signal);
  return answer === undefined ? undefined : String(answer.access_token);
}

async function post(
  url: string,
  body: object,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<Readonly<Record<string, unknown>> | undefined> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
    });
    text = await response.text();
  } catch {
    return undefined;
  }
  if (AWAY_STATUSES.includes(response.status)) return undefined;
  if (!response.ok) throw new Problem(`${url} answered ${response.status} ${text.trim()}`);
  return JSON.parse(text) as Record<string, unknown>;
}
