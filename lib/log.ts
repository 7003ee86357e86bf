import { type Logger, pino } from "pino";

export type { Logger };

/** JSON lines on standard output. Secrets never get here: the paths below are cut out as a second line of defence. */
export function createLogger(service: string): Logger {
  return pino({
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: ["password", "*.password", "authorization", "*.authorization", "connectionString", "*.connectionString"],
      censor: "[redacted]",
    },
  });
}
