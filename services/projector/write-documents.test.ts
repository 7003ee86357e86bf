import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { AccountDocument } from "#lib/projection.ts";
import type { ProjectedDocument } from "#services/projector/project.ts";
import { newestVersions } from "#services/projector/write-documents.ts";

const document = (id: string, version: bigint): ProjectedDocument => ({
  family: "accounts",
  month: undefined,
  id,
  version,
  source: { account_id: id, version: version.toString() } as AccountDocument,
});

test("of several versions of a document only the highest is written, whatever their order", () => {
  const documents = fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.bigInt(1n, 9n)), { maxLength: 30 });
  fc.assert(
    fc.property(documents, (drawn) => {
      const highest = new Map<string, bigint>();
      for (const [id, version] of drawn) {
        const known = highest.get(id) ?? 0n;
        highest.set(id, known < version ? version : known);
      }
      const newest = newestVersions(drawn.map(([id, version]) => document(id, version)));
      assert.deepEqual(new Map(newest.map(({ id, version }) => [id, version])), highest);
      assert.equal(newest.length, highest.size);
    }),
  );
});
