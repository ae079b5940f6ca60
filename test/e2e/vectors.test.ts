/** A built daemon with a vector store: mirrored and direct collections, and the vector store gone. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { milvusLite, startMilvusLite } from "../engines/milvus.ts"
import { startDaemon } from "../support/daemon.ts"

const values = (...list: number[]) => ({ data: { case: "values", value: { values: list } } }) as const

test("searches the copies, and answers from the records once the vector store is gone", {
  skip: milvusLite.skip,
  timeout: 240_000,
}, async () => {
  const server = await startMilvusLite()
  const daemon = await startDaemon({ env: { KEELPLANE_STORES__VECTORS__URL: server.url } })
  const channel = daemon.channel()
  const memory = channel.stub(MemoryService)
  try {
    const made = await memory.createCollection({ collection: { id: "notes", dimension: 2 } })
    assert.equal(made.collection?.storageMode, StorageMode.MIRRORED)
    const local = { id: "local", dimension: 2, storageMode: StorageMode.LOCAL }
    assert.equal(
      (await memory.createCollection({ collection: local })).collection?.storageMode,
      StorageMode.LOCAL,
    )
    const bulk = { id: "bulk", dimension: 2, storageMode: StorageMode.DIRECT }
    assert.equal(
      (await memory.createCollection({ collection: bulk })).collection?.storageMode,
      StorageMode.DIRECT,
    )
    const records = [
      { id: "a", text: "one", vector: values(1, 0) },
      { id: "b", text: "two", vector: values(0, 1) },
    ]
    const query = { target: { case: "vector", value: values(1, 0.1) }, k: 1 } as const
    for (const collectionId of ["notes", "local", "bulk"]) {
      await memory.upsertRecords({ collectionId, records })
      const { result } = await memory.search({ collectionId, query })
      assert.deepEqual(
        [result?.hits[0]?.record?.id, result?.hits[0]?.record?.text, result?.degraded, result?.degradedBy],
        ["a", "one", false, ""],
        collectionId,
      )
    }
    await server.stop()
    const degraded = await memory.search({ collectionId: "notes", query })
    assert.deepEqual(
      [degraded.result?.hits[0]?.record?.id, degraded.result?.degraded, degraded.result?.degradedBy],
      ["a", true, "vectors"],
    )
    await memory.upsertRecords({ collectionId: "notes", records: [{ id: "c", vector: values(1, 0.1) }] })
    const batch = await memory.batchSearch({ collectionId: "notes", queries: [query] })
    assert.deepEqual([batch.results[0]?.hits[0]?.record?.id, batch.results[0]?.degraded], ["c", true])
    assert.equal((await memory.search({ collectionId: "local", query })).result?.degraded, false)
    await assert.rejects(memory.search({ collectionId: "bulk", query }), /vector store|unavailable/i)
  } finally {
    channel.close()
    await daemon.stop()
  }
})
