/** How much of what an exact search finds the default index finds: 20000 passages of real text, with and without a filter. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { MilvusClient } from "@zilliz/milvus2-sdk-node"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { type Collection, ID_ONLY } from "../../src/domain/memory/model.ts"
import { RECORD_FIELDS } from "../../src/domain/memory/ports.ts"
import { cosine } from "../../src/domain/memory/vectors.ts"
import { createLexicalEmbedder } from "../../src/stores/embedders/index.ts"
import { milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"
import { passages } from "../support/corpus.ts"
import { until } from "../support/until.ts"

const RECORDS = 20_000
const QUERIES = 100
const K = 10
const BUCKETS = 100
const LEAST = 0.95
const BATCH = 1_000

describe(`recall on ${milvusStandalone.name}`, { skip: milvusStandalone.skip, timeout: 600_000 }, () => {
  it("finds 95 of 100 nearest neighbours by the default index, also among one record of a hundred", async (t) => {
    const texts = passages(RECORDS + QUERIES)
    const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 580_000 }
    const embedder = createLexicalEmbedder()
    const vectors: Float32Array[] = []
    for (let at = 0; at < texts.length; at += BATCH) {
      vectors.push(...(await embedder.embed(scope, texts.slice(at, at + BATCH))))
    }
    const engine = await testMilvus(milvusStandalone, { isolation: "own" })
    const place = {
      ref: "1",
      dimension: embedder.dimension,
      metric: "COSINE",
      index: { kind: "AUTO" },
    } as const
    const collection = { ...place, id: "c" } as unknown as Collection
    for (let at = 0; at < RECORDS; at += BATCH) {
      const rows = Array.from({ length: BATCH }, (_, i) => ({
        id: String(at + i),
        text: "",
        vector: vectors[at + i] ?? new Float32Array(),
        metadata: { bucket: (at + i) % BUCKETS },
        revision: BigInt(at + i + 1),
        createTimeMs: 0,
        updateTimeMs: 0,
        expireTimeMs: undefined,
      }))
      await engine.vectors.write(scope, place, rows)
    }
    await indexed()
    for (const bucket of [undefined, 7]) {
      const filter =
        bucket === undefined ? undefined : parseFilter(`metadata.bucket = ${bucket}`, RECORD_FIELDS)
      const queries = vectors.slice(RECORDS).map((vector) => ({
        filter,
        parts: ID_ONLY,
        dense: { vector, limit: K, exact: false, efSearch: 100 },
        keyword: undefined,
      }))
      const answers = await engine.vectors.search(scope, collection, queries)
      let found = 0
      for (const [i, { dense }] of answers.entries()) {
        assert.equal(dense.length, K)
        // Equal passages are equally near, so what counts is how near and not which.
        const nearest = exact(vectors.slice(0, RECORDS), vectors[RECORDS + i] ?? new Float32Array(), bucket)
        found += dense.filter(({ score }) => score >= nearest - 1e-5).length
      }
      const recall = found / (QUERIES * K)
      t.diagnostic(`recall@${K} ${bucket === undefined ? "of all" : "of one in a hundred"}: ${recall}`)
      assert.ok(recall >= LEAST, `${recall}`)
    }
  })
})

/** The similarity of the last one that belongs to the answer. */
function exact(all: readonly Float32Array[], query: Float32Array, bucket: number | undefined): number {
  const scores = all.flatMap((vector, i) =>
    bucket === undefined || i % BUCKETS === bucket ? [cosine(vector, query)] : [],
  )
  return scores.sort((a, b) => b - a)[K - 1] ?? -1
}

/** Has the server seal its segments and waits until their index is built. */
async function indexed(): Promise<void> {
  const url = new URL(await milvusStandalone.url())
  const client = new MilvusClient({ address: url.host })
  try {
    const { data } = await client.showCollections()
    const [name = ""] = data
      .map((each) => each.name)
      .filter((each) => each.includes("_d384_COSINE_hnsw24x256_c1"))
    await client.flushSync({ collection_names: [name] })
    // Until the node that searches has taken the finished index over, it makes do with a coarse one of its own.
    await until(
      "the index is built",
      async () => {
        const { infos } = await client.getQuerySegmentInfo({ collectionName: name })
        const rows = infos
          .filter((each) => each.index_name !== "")
          .reduce((sum, each) => sum + Number(each.num_rows), 0)
        return rows >= RECORDS
      },
      300_000,
    )
  } finally {
    await client.closeConnection()
  }
}
