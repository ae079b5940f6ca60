/** How much of what an exact search finds the default index finds: 20000 passages of real text, with and without filters. */
import { describe, it } from "node:test"
import { MilvusClient } from "@zilliz/milvus2-sdk-node"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { Collection } from "../../src/domain/memory/model.ts"
import { milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"
import {
  assertRecall,
  RECALL_BATCH,
  RECALL_RECORDS,
  recallMetadata,
  recallVectors,
} from "../support/recall.ts"
import { until } from "../support/until.ts"

describe(`recall on ${milvusStandalone.name}`, { skip: milvusStandalone.skip, timeout: 600_000 }, () => {
  it("finds 95 of 100 nearest neighbours by the default index, also among one record of a hundred", async (t) => {
    const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 580_000 }
    const vectors = await recallVectors()
    const engine = await testMilvus(milvusStandalone, { isolation: "own" })
    const place = {
      ref: "1",
      dimension: vectors[0]?.length ?? 0,
      metric: "COSINE",
      index: { kind: "AUTO" },
    } as const
    const collection = { ...place, id: "c" } as unknown as Collection
    for (let at = 0; at < RECALL_RECORDS; at += RECALL_BATCH) {
      const rows = vectors.slice(at, at + RECALL_BATCH).map((vector, i) => ({
        id: String(at + i),
        text: "",
        vector,
        metadata: recallMetadata(at + i),
        revision: BigInt(at + i + 1),
        createTimeMs: 0,
        updateTimeMs: 0,
        expireTimeMs: undefined,
      }))
      await engine.vectors.write(scope, place, rows)
    }
    await indexed()
    await assertRecall(
      vectors,
      (queries) => engine.vectors.search(scope, collection, queries),
      (message) => t.diagnostic(message),
    )
  })
})

/** Has the server seal its segments and waits until their index is built. */
async function indexed(): Promise<void> {
  const { host: address, username, password } = new URL(await milvusStandalone.url())
  const client = new MilvusClient({ address, username, password })
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
        return rows >= RECALL_RECORDS
      },
      300_000,
    )
  } finally {
    await client.closeConnection()
  }
}
