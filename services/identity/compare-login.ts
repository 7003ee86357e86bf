import { FraudSignal_Severity, FraudSignal_Type } from "#proto/ledgermesh/identity/v1/events.ts";
import { distanceKm } from "#services/identity/countries.ts";

/**
 * An attempt to sign in, compared with those before it. Signals refuse nothing by themselves: risk decisions weigh them (R-F1), and
 * mails tell the user. Pure: what it looks at is given, so that each case can be stated in a test.
 */
export type LoginAttemptSeen =
  | {
      readonly success: true;
      readonly atMs: number;
      /** ISO 3166-1 alpha-2; empty when the address tells none. */
      readonly country: string;
      /** Whether the user has signed in from this device, and has not forgotten it since. */
      readonly isKnownDevice: boolean;
      /** Whether the user has signed in from this country. */
      readonly isKnownCountry: boolean;
    }
  | {
      readonly success: false;
      /** Failures in a row and within FAILURE_WINDOW_MS, this one included. */
      readonly failures: number;
    };

export interface EarlierLogins {
  /** Whether the user has ever signed in: there is nothing to compare the first sign-in with. */
  readonly hasSignedIn: boolean;
  /** The last one with a known country. */
  readonly last: { readonly country: string; readonly atMs: number } | undefined;
}

export interface LoginSignal {
  readonly type: FraudSignal_Type;
  readonly severity: FraudSignal_Severity;
}

/** As fast as an airliner with nobody waiting anywhere: whoever is faster is somebody else. */
export const MAX_TRAVEL_KM_PER_HOUR = 1_000;
const MS_PER_HOUR = 3_600_000;
export const FAILURE_WINDOW_MS = 15 * 60_000;
/** At the fifth failure, and again at every fifth after it, so that a flood does not become a flood of events. */
export const FAILURES_PER_SIGNAL = 5;
const FAILURES_OF_AN_ATTACK = 20;

/** What is unlike before. Of a failure only that there are too many: who did not get in has been nowhere. */
export function compareLogin(attempt: LoginAttemptSeen, earlier: EarlierLogins): LoginSignal[] {
  if (!attempt.success) {
    if (attempt.failures === 0 || attempt.failures % FAILURES_PER_SIGNAL !== 0) return [];
    const severity =
      attempt.failures >= FAILURES_OF_AN_ATTACK ? FraudSignal_Severity.HIGH : FraudSignal_Severity.MEDIUM;
    return [{ type: FraudSignal_Type.TOO_MANY_FAILURES, severity }];
  }
  if (!earlier.hasSignedIn) return [];
  const signals: LoginSignal[] = [];
  if (!attempt.isKnownDevice) signals.push({ type: FraudSignal_Type.NEW_DEVICE, severity: FraudSignal_Severity.LOW });
  if (attempt.country !== "" && !attempt.isKnownCountry) {
    signals.push({ type: FraudSignal_Type.NEW_COUNTRY_LOGIN, severity: FraudSignal_Severity.MEDIUM });
  }
  if (earlier.last !== undefined && isImpossible(earlier.last, attempt)) {
    signals.push({ type: FraudSignal_Type.IMPOSSIBLE_TRAVEL, severity: FraudSignal_Severity.HIGH });
  }
  return signals;
}

/** Whether nobody can have travelled so far in the time between; the clock may stand still, but is taken not to go back. */
function isImpossible(
  from: { readonly country: string; readonly atMs: number },
  to: { readonly country: string; readonly atMs: number },
): boolean {
  const hours = Math.max(0, to.atMs - from.atMs) / MS_PER_HOUR;
  return distanceKm(from.country, to.country) > hours * MAX_TRAVEL_KM_PER_HOUR;
}
