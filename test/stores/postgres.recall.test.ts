/** How much of what an exact search finds the default index of pgvector finds: 20000 passages of real text, with and without filters. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { optimizeCollection } from "../../src/domain/memory/optimize-collection.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { freshTenant } from "../engines/pglite.ts"
import { postgresServers, serverDatabase } from "../engines/postgres.ts"
import {
  assertRecall,
  RECALL_BATCH,
  RECALL_RECORDS,
  recallMetadata,
  recallVectors,
} from "../support/recall.ts"

// The newest one: pgvector is of one version on all of them.
for (const server of postgresServers.slice(0, 1)) {
  describe(`recall on ${server.name}`, { skip: server.skip, timeout: 600_000 }, () => {
    it("finds 95 of 100 nearest neighbours by the default index, also among one record of a hundred", async (t) => {
      const vectors = await recallVectors()
      const engine = await serverDatabase(await server.url())
      const { database, maintenance } = engine
      const store = createMemoryStore({ database, clock: systemClock, concurrency: 4, maintenance })
      const scope = systemScope(freshTenant())
      await store.createCollection(scope, {
        id: "c",
        description: "",
        labels: {},
        dimension: vectors[0]?.length ?? 0,
        metric: "COSINE",
        quantization: "NONE",
        index: { kind: "AUTO" },
        embedder: "",
        defaultTtlMs: undefined,
      })
      const empty = await store.getCollection(scope, "c")
      for (let at = 0; at < RECALL_RECORDS; at += RECALL_BATCH) {
        const batch = vectors.slice(at, at + RECALL_BATCH).map((vector, i) => ({
          id: String(at + i),
          text: "",
          vector,
          metadata: recallMetadata(at + i),
          expireTimeMs: undefined,
          ifRevisionMatch: undefined,
        }))
        await store.upsert(scope, empty, batch)
      }
      for await (const progress of optimizeCollection(store, scope, "c", false)) void progress
      const collection = await store.getCollection(scope, "c")
      assert.equal(collection.indexState, "READY")
      await assertRecall(
        vectors,
        (queries) => store.search(scope, collection, queries),
        (message) => t.diagnostic(message),
      )
      await store.close()
      await engine.close()
    })
  })
}
