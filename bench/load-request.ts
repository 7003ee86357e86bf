import type { TlsFiles } from "#lib/tls.ts";

/** What a workload wants of the load client. */
export interface Load {
  readonly protocol: Protocol;
  /** host:port */
  readonly address: string;
  /** Whose certificate the calls by gRPC are made with; undefined: in plain text, by `ghz` alone. */
  readonly tls: TlsFiles | undefined;
  /** Makes the access token that the calls by REST are made with. */
  readonly token: () => Promise<string>;
  /** An access token that the calls by gRPC carry, by `ghz` alone. */
  readonly bearer?: string;
  readonly callers: number;
  /**
   * Open loop, by `ghz` alone: so many calls are sent per second, however many are under way. Otherwise each caller sends its
   * next one when the last was answered.
   */
  readonly callsPerSecond?: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  /**
   * Who pays whom: each call takes the next one, and after the last the first again. So there must be enough of them, in
   * random order, that a call does not know it from pairs that are drawn for it.
   */
  readonly pairs: readonly Pair[];
}

export type Protocol = "grpc" | "rest";
export type Pair = readonly [debitAccountId: string, creditAccountId: string];

/** What a load client may take beyond the time that was asked for: for connecting, and for the last answers. */
export const EXTRA_MS = 30_000;
/** Each transfer's amount. */
export const AMOUNT_MINOR_UNITS = 1n;
/** Of all accounts. */
export const CURRENCY = "EUR";
/** When a caller gives up. */
export const CALL_TIMEOUT_MS = 10_000;
/** How many messages of failed calls are kept. */
export const FAILURES_SHOWN = 3;
