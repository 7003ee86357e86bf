import accounts from "#infra/elasticsearch/accounts.json" with { type: "json" };
import checkpoints from "#infra/elasticsearch/checkpoints.json" with { type: "json" };
import entries from "#infra/elasticsearch/entries.json" with { type: "json" };
import holes from "#infra/elasticsearch/projection-holes.json" with { type: "json" };
import transfers from "#infra/elasticsearch/transfers.json" with { type: "json" };
import { errorTypeOf } from "#lib/elasticsearch.ts";
import { ALIASES, checkpointId, type Family, indexName, LIVE_GENERATION } from "#lib/projection.ts";
import type { Context } from "#services/projector/context.ts";

const TEMPLATES: Readonly<Record<Family, { index_patterns: string[]; template: object & { settings: object } }>> = {
  entries,
  transfers,
  accounts,
  checkpoints,
  holes,
};
const FAMILIES = Object.keys(ALIASES) as Family[];
const WITHOUT_MONTH: readonly Family[] = ["accounts", "checkpoints", "holes"];

/**
 * Installs the templates, the indices that do not depend on a month, and the shard's checkpoint, with their aliases.
 * Safe to repeat, and when two do it at once.
 */
export async function setUpIndices(ctx: Context, shard: number): Promise<void> {
  const { elasticsearch, generation } = ctx;
  // An index of ours that made itself, without its template and alias, would take documents that nobody finds.
  await elasticsearch.cluster.putSettings({
    persistent: { "action.auto_create_index": `${FAMILIES.map((family) => `-${ALIASES[family]}-*`).join(",")},+*` },
  });
  for (const family of FAMILIES) await putTemplate(ctx, family);
  for (const family of WITHOUT_MONTH) await ensureIndex(ctx, family);
  // Without one an alias would not exist before the first document.
  const thisMonth = new Date().toISOString().slice(0, 7).replace("-", ".");
  await ensureIndex(ctx, "entries", thisMonth);
  await ensureIndex(ctx, "transfers", thisMonth);

  try {
    await elasticsearch.index({
      index: indexName("checkpoints", generation),
      id: checkpointId(generation, shard),
      document: { generation, shard, number: "0" },
      version: 0,
      version_type: "external",
      refresh: true,
    });
  } catch (error) {
    if (errorTypeOf(error) !== "version_conflict_engine_exception") throw error;
  }
}

/** Creates an index from its template, behind its alias when its generation is the live one. */
export async function ensureIndex(ctx: Context, family: Family, month?: string): Promise<void> {
  const { elasticsearch, generation } = ctx;
  const index = indexName(family, generation, month);
  try {
    await elasticsearch.indices.create({
      index,
      ...(generation === LIVE_GENERATION ? { aliases: { [ALIASES[family]]: {} } } : {}),
    });
    ctx.log.info({ index }, "created an index");
  } catch (error) {
    if (errorTypeOf(error) !== "resource_already_exists_exception") throw error;
  }
}

async function putTemplate({ elasticsearch, indexReplicas }: Context, family: Family): Promise<void> {
  const { index_patterns, template } = TEMPLATES[family];
  await elasticsearch.indices.putIndexTemplate({
    name: ALIASES[family],
    index_patterns,
    template: { ...template, settings: { ...template.settings, number_of_replicas: indexReplicas } },
  });
}
