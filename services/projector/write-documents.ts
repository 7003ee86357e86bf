import { BackOff, unlessAborted } from "#lib/back-off.ts";
import { errorTypeOf, statusOf } from "#lib/elasticsearch.ts";
import { indexName } from "#lib/projection.ts";
import type { Context } from "#services/projector/context.ts";
import { holes, writtenDocuments } from "#services/projector/metrics.ts";
import type { ProjectedDocument } from "#services/projector/project.ts";
import { ensureIndex } from "#services/projector/set-up-indices.ts";

/** One bulk stays below this where one document fits. */
const MAX_BULK_BYTES = 4 * 1024 * 1024;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;
const MAX_REASON_CHARACTERS = 2_000;

/** One operation of a bulk, as text. */
interface Operation {
  readonly index: string;
  readonly id: string;
  readonly eventNumber: string;
  readonly text: string;
}

/** What is refused for good: the index is there and the document does not fit it. All else may work later. */
const REFUSED_FOR_GOOD = 400;
/** A newer version of the document is there. */
const CONFLICT = 409;

/** Writes the documents of one shard; an object, since it remembers which indices it has made sure of. */
export class DocumentWriter {
  readonly #ctx: Context;
  readonly #shard: number;
  readonly #signal: AbortSignal;
  readonly #knownIndices = new Set<string>();
  readonly #unrefreshed = new Set<string>();

  constructor(ctx: Context, shard: number, signal: AbortSignal) {
    this.#ctx = ctx;
    this.#shard = shard;
    this.#signal = signal;
  }

  /**
   * Ends when Elasticsearch has every document, or a newer version of it, or a hole in its place; tries for ever while
   * Elasticsearch is away. Throws when an index vanished, or when the signal aborts.
   */
  async write(documents: readonly ProjectedDocument[]): Promise<void> {
    const newest = newestVersions(documents);
    for (const document of newest) await this.#ensureIndex(document);
    const operations = newest.map((document) => this.#toOperation(document));
    for (const slice of slicesOf(operations)) await this.#writeSlice(slice);
    writtenDocuments.inc({ shard: this.#shard }, newest.length);
  }

  /** Makes all that was written before the call visible to searches. */
  async refresh(): Promise<void> {
    if (this.#unrefreshed.size === 0) return;
    const indices = [...this.#unrefreshed];
    this.#unrefreshed.clear();
    await this.untilAnswered("refresh", () => this.#ctx.refresher.refresh(indices));
  }

  /** Notes an event that no document could be made of. */
  async recordHole(eventNumber: bigint, reason: string): Promise<void> {
    await this.#writeSlice([this.#hole(eventNumber.toString(), "", "", reason)]);
  }

  async #writeSlice(slice: readonly Operation[]): Promise<void> {
    const { log, elasticsearch } = this.#ctx;
    const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
    let waiting = slice;
    for (;;) {
      const body = waiting.map(({ text }) => text).join("");
      const answer = (await this.untilAnswered("bulk", () =>
        elasticsearch.transport.request(
          {
            method: "POST",
            path: "/_bulk",
            bulkBody: body,
            querystring: { filter_path: "errors,items.*.status,items.*.error.type,items.*.error.reason" },
          },
          { headers: { "content-type": "application/x-ndjson", accept: "application/json" } },
        ),
      )) as BulkAnswer;
      for (const { index } of waiting) this.#unrefreshed.add(index);
      if (!answer.errors) return;

      const again: Operation[] = [];
      let transient = "";
      for (const [position, operation] of waiting.entries()) {
        const { status, error } = Object.values(answer.items[position] ?? {})[0] ?? { status: 500 };
        if (status < 300 || status === CONFLICT) continue;
        const reason = `${error?.type}: ${error?.reason}`;
        if (error?.type === "index_not_found_exception") throw new Error(`the index ${operation.index} vanished`);
        if (status !== REFUSED_FOR_GOOD) {
          again.push(operation);
          transient = reason;
        } else if (operation.index === this.#holesIndex()) {
          log.error({ hole: operation.id, reason }, "Elasticsearch refused the record of a hole");
        } else {
          again.push(this.#hole(operation.eventNumber, operation.index, operation.id, reason));
        }
      }
      if (again.length === 0) return;
      waiting = again;
      if (transient !== "") {
        log.warn({ shard: this.#shard, documents: again.length, reason: transient }, "documents have to wait");
        await this.#wait("Elasticsearch takes no documents", backOff);
      }
    }
  }

  /** Repeats a request until Elasticsearch answers it. Throws what will not pass, and when the signal aborts. */
  async untilAnswered<Answer>(what: string, request: () => Promise<Answer>): Promise<Answer> {
    const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
    for (;;) {
      try {
        const answer = await unlessAborted(request(), this.#signal);
        this.#ctx.waitingFor.delete(this.#shard);
        return answer;
      } catch (error) {
        this.#signal.throwIfAborted();
        const status = statusOf(error);
        if (status === 404 || status === REFUSED_FOR_GOOD || status === CONFLICT) throw error;
        this.#ctx.log.warn({ shard: this.#shard, what, error: String(error) }, "Elasticsearch does not answer");
        await this.#wait("Elasticsearch does not answer", backOff);
      }
    }
  }

  /** Before the next try; the reason shows in the process's health until one succeeds. */
  async #wait(reason: string, backOff: BackOff): Promise<void> {
    this.#ctx.waitingFor.set(this.#shard, reason);
    await backOff.wait(this.#signal);
    this.#signal.throwIfAborted();
  }

  async #ensureIndex({ family, month }: ProjectedDocument): Promise<void> {
    const name = indexName(family, this.#ctx.generation, month);
    if (this.#knownIndices.has(name)) return;
    await this.untilAnswered("create index", () => ensureIndex(this.#ctx, family, month));
    this.#knownIndices.add(name);
  }

  #toOperation({ family, month, id, version, source }: ProjectedDocument): Operation {
    const index = indexName(family, this.#ctx.generation, month);
    return toOperation(index, id, source.event_number, `,"version":${version},"version_type":"external"`, source);
  }

  #hole(eventNumber: string, index: string, documentId: string, reason: string): Operation {
    const { log } = this.#ctx;
    holes.inc({ shard: this.#shard });
    log.error({ shard: this.#shard, eventNumber, index, documentId, reason }, "a hole in the projection");
    const source = {
      shard: this.#shard,
      event_number: eventNumber,
      index,
      document_id: documentId,
      reason: reason.slice(0, MAX_REASON_CHARACTERS),
      time: new Date().toISOString(),
    };
    return toOperation(this.#holesIndex(), `${this.#shard}-${eventNumber}-${documentId}`, eventNumber, "", source);
  }

  #holesIndex(): string {
    return indexName("holes", this.#ctx.generation);
  }
}

interface BulkAnswer {
  readonly errors: boolean;
  readonly items: readonly Record<string, { status: number; error?: { type: string; reason: string } }>[];
}

function toOperation(index: string, id: string, eventNumber: string, version: string, source: object): Operation {
  const text = `{"index":{"_index":"${index}","_id":${JSON.stringify(id)}${version}}}\n${JSON.stringify(source)}\n`;
  return { index, id, eventNumber, text };
}

/** Of several versions of a document the highest, in the order in which documents were met first. */
export function newestVersions(documents: readonly ProjectedDocument[]): ProjectedDocument[] {
  const newest = new Map<string, ProjectedDocument>();
  for (const document of documents) {
    const known = newest.get(document.id);
    if (known === undefined || known.version < document.version) newest.set(document.id, document);
  }
  return [...newest.values()];
}

function* slicesOf(operations: readonly Operation[]): Generator<Operation[]> {
  let slice: Operation[] = [];
  let characters = 0;
  for (const operation of operations) {
    if (slice.length > 0 && characters + operation.text.length > MAX_BULK_BYTES) {
      yield slice;
      slice = [];
      characters = 0;
    }
    slice.push(operation);
    characters += operation.text.length;
  }
  if (slice.length > 0) yield slice;
}

/** For callers that must tell a lost race from other errors. */
export function isVersionConflict(error: unknown): boolean {
  return errorTypeOf(error) === "version_conflict_engine_exception";
}
