import { CallError, call } from "#lib/grpc-client.ts";
import type { Account, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { eventually, ledger, openAccount, openFunded, shardNumbers, transferRequest } from "#tests/stack.ts";

/** Writes that go on while parts of the stack are killed. */
const WRITERS_PER_SHARD = 2;
const RETRY_PAUSE_MS = 20;

export interface Load {
  acknowledged(): number;
  stop(): Promise<void>;
}

/** Writes on every shard until stopped; a transfer that failed is repeated under its key. */
export async function startLoad(): Promise<Load> {
  let stopped = false;
  let acknowledged = 0;
  async function writer(payer: Account, payee: Account): Promise<void> {
    let request: CreateTransferRequest | undefined;
    while (!stopped) {
      request ??= transferRequest(payer.accountId, payee.accountId, 1n, { memo: "crash" });
      try {
        await call(ledger, ledger.createTransfer, request, {}, 8_000);
        request = undefined;
        acknowledged += 1;
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
      }
    }
  }
  const pairs = await Promise.all(
    shardNumbers
      .flatMap((shard) => new Array<number>(WRITERS_PER_SHARD).fill(shard))
      .map(async (shard) => [await openFunded(10_000_000n, {}, shard), await openAccount({}, shard)] as const),
  );
  const writers = pairs.map(([payer, payee]) => writer(payer, payee));
  return {
    acknowledged: () => acknowledged,
    async stop() {
      stopped = true;
      await Promise.all(writers);
    },
  };
}

/** Resolves when the load has had `more` further acknowledgements. */
export async function progress(load: Load, more = 100): Promise<void> {
  const target = load.acknowledged() + more;
  await eventually(() => load.acknowledged() >= target, `${more} more transfers are acknowledged`, 60_000);
}
