import { type DestinationStream, type Logger, pino } from "pino";

export type { Logger };

/**
 * What is never written, whatever it holds: secrets, and what is personal. Code has no reason to log any of it; this is the second
 * line of defence, for whole objects that somebody logs.
 */
const SECRET_NAMES = [
  "password",
  "newPassword",
  "currentPassword",
  "passwordHash",
  "token",
  "accessToken",
  "access_token",
  "refreshToken",
  "refresh_token",
  "authorization",
  "cookie",
  "totp",
  "code",
  "recoveryCode",
  "recoveryCodes",
  "secret",
  "privateKey",
  "connectionString",
  "email",
  "recipient",
  "phone",
  "address",
  "clientAddress",
  "userAgent",
  // Of Postgres' errors: rows and parameters in plain text.
  "detail",
  "where",
  "parameters",
];
/** Deeper than anything that is logged; a name is found at each level down to it. */
const LEVELS = 4;
const REDACTED = "[redacted]";

const PATHS = SECRET_NAMES.flatMap((name) =>
  Array.from({ length: LEVELS }, (_, level) => `${"*.".repeat(level)}${name}`),
);

/** Codes of errors are what one looks for: SQLSTATE has five characters, Node's begin with E. No code of ours looks so. */
const ERROR_CODE = /^(?:[0-9A-Z]{5}|E[A-Z_]{3,})$/;

function censor(value: unknown, path: string[]): unknown {
  const isErrorCode = path.at(-1) === "code" && typeof value === "string" && ERROR_CODE.test(value);
  return isErrorCode ? value : REDACTED;
}

/** In the midst of a text, such as an error's: JSON web tokens, and the password in a URL. */
const JSON_WEB_TOKEN = /eyJ[\w-]{10,}\.[\w-]+\.[\w-]*/g;
const PASSWORD_IN_URL = /(:\/\/[^\s:/@"]+:)[^\s@"]+@/g;

/** JSON lines, on standard output unless a stream is given. Secrets and what is personal are cut out. */
export function createLogger(service: string, destination?: DestinationStream): Logger {
  return pino(
    {
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: PATHS, censor },
      hooks: {
        streamWrite: (line) => line.replaceAll(JSON_WEB_TOKEN, REDACTED).replaceAll(PASSWORD_IN_URL, `$1${REDACTED}@`),
      },
    },
    destination ?? pino.destination(1),
  );
}
