import type {
  CaptureHoldRequest,
  CreateConversionRequest,
  CreateHoldRequest,
  CreateQuoteRequest,
  CreateTransferRequest,
  FreezeAccountRequest,
  ReverseTransferRequest,
  UnfreezeAccountRequest,
  VoidHoldRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** What a client can ask for: a method of the ledger and its request. */
interface Requests {
  createTransfer: CreateTransferRequest;
  captureHold: CaptureHoldRequest;
  reverseTransfer: ReverseTransferRequest;
  createConversion: CreateConversionRequest;
  createHold: CreateHoldRequest;
  voidHold: VoidHoldRequest;
  createQuote: CreateQuoteRequest;
  freezeAccount: FreezeAccountRequest;
  unfreezeAccount: UnfreezeAccountRequest;
}

/** A posting that the transfer must have; `system:NAME` stands for any account, no amount for any amount. */
export interface ExpectedPosting {
  readonly debitAccountId: string;
  readonly creditAccountId: string;
  readonly amountMinorUnits?: bigint;
  readonly currency: string;
}

export type Order = {
  [Rpc in keyof Requests]: {
    readonly rpc: Rpc;
    readonly request: Requests[Rpc];
    /** For those that make a transfer: its postings, or the first ones of a conversion. */
    readonly expects?: readonly ExpectedPosting[];
  };
}[keyof Requests];

/** The same before it has its key. */
export type Unkeyed = {
  [Rpc in keyof Requests]: {
    readonly rpc: Rpc;
    readonly request: Omit<Requests[Rpc], "idempotencyKey">;
    readonly expects?: readonly ExpectedPosting[];
  };
}[keyof Requests];

export function withKey(order: Unkeyed, idempotencyKey: string): Order {
  // The compiler does not see that adding the same field to each keeps them apart.
  return { ...order, request: { ...order.request, idempotencyKey } } as Order;
}

/** Whether what it makes, if it makes anything, is a transfer. */
export function makesTransfer({ rpc }: Order): boolean {
  switch (rpc) {
    case "createTransfer":
    case "captureHold":
    case "reverseTransfer":
    case "createConversion":
      return true;
    case "createHold":
    case "voidHold":
    case "createQuote":
    case "freezeAccount":
    case "unfreezeAccount":
      return false;
  }
}

/** The group of a batch call that it belongs to; empty for none. */
export function groupOf(order: Order): string {
  return order.rpc === "createTransfer" ? order.request.group : "";
}
