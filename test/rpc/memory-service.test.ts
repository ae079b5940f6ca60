/** MemoryService by gRPC, from the wire to SQL. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect"
import { createGrpcTransport } from "@connectrpc/connect-node"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { uuid7 } from "../../src/domain/kernel/uuid7.ts"
import { BadRequestSchema, ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import {
  IndexState,
  MemoryService,
  Metric,
  OptimizePhase,
  Quantization,
  RecordView,
  SearchMode,
  StorageMode,
} from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { createServer, type RpcServer } from "../../src/rpc/server.ts"
import { createMemoryService } from "../../src/services/memory-service.ts"
import { Pages } from "../../src/services/paging.ts"
import { createLexicalEmbedder } from "../../src/stores/embedders/index.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { embeddedDatabase } from "../engines/pglite.ts"

const packed = (...values: readonly number[]) => ({
  data: { case: "packed" as const, value: new Uint8Array(Float32Array.from(values).buffer) },
})
const listed = (...values: readonly number[]) => ({
  data: { case: "values" as const, value: { values: [...values] } },
})

describe("memory service", { timeout: 120_000 }, () => {
  let engine: SqlEngine
  let server: RpcServer
  let memory: ReturnType<typeof clientOf>
  const clientOf = (transport: Transport) => createClient(MemoryService, transport)

  before(async () => {
    engine = await embeddedDatabase()
    const lexical = createLexicalEmbedder()
    const silent = () => {}
    const service = createMemoryService({
      store: createMemoryStore({ database: engine.database, clock: systemClock, concurrency: 1 }),
      embedders: new Map([[lexical.name, lexical]]),
      pages: new Pages(new Uint8Array(32).fill(7)),
      clock: systemClock,
      newId: () => uuid7(),
    })
    server = createServer({
      services: [service],
      listen: { tcp: { host: "127.0.0.1", port: 0 } },
      logger: { info: silent, warn: silent, error: silent },
    })
    const { tcp } = await server.start()
    memory = clientOf(createGrpcTransport({ baseUrl: `http://127.0.0.1:${tcp?.port}` }))
  })
  after(async () => {
    await server.stop()
    await engine.close()
  })

  it("keeps a collection with every option", async () => {
    const { collection } = await memory.createCollection({
      collection: {
        id: "all",
        description: "d",
        labels: { a: "b" },
        dimension: 3,
        metric: Metric.L2,
        quantization: Quantization.HALF,
        index: { case: "hnsw", value: { m: 8 } },
        defaultTtl: { seconds: 3600n },
      },
      requestId: "make",
    })
    assert.equal(collection?.index.case, "hnsw")
    assert.deepEqual([collection?.metric, collection?.quantization], [Metric.L2, Quantization.HALF])
    assert.equal(collection?.index.case === "hnsw" && collection.index.value.efConstruction, 64)
    assert.equal(collection?.indexState, IndexState.EXACT)
    assert.deepEqual((await memory.getCollection({ collectionId: "all" })).collection, collection)
    const masked = await memory.updateCollection({
      collection: { id: "all", description: "e" },
      updateMask: { paths: ["description", "default_ttl"] },
      ifRevisionMatch: collection?.revision ?? 0n,
    })
    assert.equal(masked.collection?.description, "e")
    assert.deepEqual(masked.collection?.labels, { a: "b" })
    assert.equal(masked.collection?.defaultTtl, undefined)
    const stale = memory.updateCollection({
      collection: { id: "all", description: "f" },
      ifRevisionMatch: collection?.revision ?? 0n,
    })
    await fails(stale, Code.Aborted, "REVISION_MISMATCH")
    const pinned = memory.updateCollection({
      collection: { id: "all" },
      updateMask: { paths: ["dimension"] },
    })
    await fails(pinned, Code.InvalidArgument, "INVALID_FIELD", "update_mask")
    const second = memory.createCollection({ collection: { id: "all", dimension: 3 } })
    await fails(second, Code.AlreadyExists, "ALREADY_EXISTS")
    const scalar = { id: "s", dimension: 3, quantization: Quantization.SCALAR }
    await fails(memory.createCollection({ collection: scalar }), Code.Unimplemented, "UNSUPPORTED_BY_ENGINE")
    const page = await memory.listCollections({ filter: 'labels.a = "b"' })
    assert.deepEqual(
      page.collections.map(({ id }) => id),
      ["all"],
    )
    assert.equal((await memory.deleteCollection({ collectionId: "all" })).deletedRecords, 0n)
    await fails(memory.getCollection({ collectionId: "all" }), Code.NotFound, "NOT_FOUND")
  })

  it("keeps records where they are asked to be, which without a vector store is here", async () => {
    const make = (id: string, storageMode?: StorageMode) =>
      memory.createCollection({ collection: { id, dimension: 2, ...(storageMode && { storageMode }) } })
    assert.equal((await make("here")).collection?.storageMode, StorageMode.LOCAL)
    assert.equal((await make("here-too", StorageMode.LOCAL)).collection?.storageMode, StorageMode.LOCAL)
    for (const mode of [StorageMode.MIRRORED, StorageMode.DIRECT]) {
      await fails(make("there", mode), Code.Unimplemented, "UNSUPPORTED_BY_ENGINE")
    }
    const moved = { id: "here", description: "x", storageMode: StorageMode.MIRRORED }
    const error = memory.updateCollection({ collection: moved })
    await fails(error, Code.InvalidArgument, "INVALID_FIELD", "collection.storage_mode")
    const query = { target: { case: "vector" as const, value: listed(1, 0) } }
    const { result } = await memory.search({ collectionId: "here", query })
    assert.deepEqual([result?.degraded, result?.degradedBy], [false, ""])
    for (const collectionId of ["here", "here-too"]) await memory.deleteCollection({ collectionId })
  })

  it("writes, reads, lists, counts and deletes records in both forms of vector", async () => {
    await memory.createCollection({ collection: { id: "r", dimension: 2 } })
    const { receipts } = await memory.upsertRecords({
      collectionId: "r",
      records: [
        { id: "a", vector: packed(1, 0), text: "eins", metadata: { n: 1, deep: { x: [true, null] } } },
        { id: "b", vector: listed(0, 1), expiration: { case: "ttl", value: { seconds: 600n } } },
        { vector: packed(1, 1) },
      ],
    })
    assert.deepEqual(
      receipts.map(({ created }) => created),
      [true, true, true],
    )
    const ids = ["b", "a", "nobody"]
    const full = await memory.getRecords({ collectionId: "r", ids, view: RecordView.FULL })
    assert.deepEqual(
      full.records.map(({ id }) => id),
      ["b", "a"],
    )
    assert.deepEqual(full.records[1]?.vector?.data, packed(1, 0).data)
    assert.deepEqual(full.records[1]?.metadata, { n: 1, deep: { x: [true, null] } })
    assert.ok(full.records[0]?.expireTime !== undefined)
    const first = await memory.listRecords({ collectionId: "r", pageSize: 2, orderBy: "create_time desc" })
    assert.equal(first.records.length, 2)
    const { nextPageToken: pageToken } = first
    const next = { collectionId: "r", pageSize: 2, orderBy: "create_time desc", pageToken }
    assert.equal((await memory.listRecords(next)).records.length, 1)
    await fails(memory.listRecords({ ...next, orderBy: "id" }), Code.InvalidArgument, "INVALID_PAGE_TOKEN")
    assert.equal((await memory.countRecords({ collectionId: "r", filter: "metadata.n = 1" })).count, 1n)
    const gone = await memory.deleteRecords({
      collectionId: "r",
      selection: { case: "ids", value: { ids: ["a", "nobody"] } },
    })
    assert.equal(gone.deleted, 1n)
    const rest = await memory.deleteRecords({
      collectionId: "r",
      selection: { case: "filter", value: "revision > 0" },
    })
    assert.equal(rest.deleted, 2n)
  })

  it("imports, exports and goes on with a resume token", async () => {
    await memory.createCollection({ collection: { id: "x", dimension: 1 } })
    async function* chunks() {
      for (let chunk = 0; chunk < 4; chunk++) {
        const records = Array.from({ length: 150 }, (_, i) => ({
          id: `r${String(chunk * 150 + i).padStart(4, "0")}`,
          vector: packed(i + 1),
        }))
        if (chunk === 2) records.push({ id: "evil", vector: packed(1, 2) })
        yield { collectionId: chunk === 0 ? "x" : "", records }
      }
    }
    const summary = await memory.importRecords(chunks())
    assert.deepEqual([summary.written, summary.refused, summary.chunks], [450n, 151n, 4n])
    assert.deepEqual(
      [summary.failures[0]?.chunk, summary.failures[0]?.field, summary.failures[0]?.recordId],
      [2n, "records[150].vector", "evil"],
    )
    const seen: string[] = []
    let resumeToken = ""
    for await (const message of memory.exportRecords({ collectionId: "x" })) {
      seen.push(...message.records.map(({ id }) => id))
      resumeToken = message.resumeToken
      break
    }
    assert.ok(seen.length < 450)
    for await (const message of memory.exportRecords({ collectionId: "x", resumeToken })) {
      seen.push(...message.records.map(({ id }) => id))
    }
    assert.equal(seen.length, 450)
    assert.equal(new Set(seen).size, 450)
    const forged = drain(memory.exportRecords({ collectionId: "x", resumeToken: "forged" }))
    await fails(forged, Code.InvalidArgument, "INVALID_RESUME_TOKEN")
    const other = drain(memory.exportRecords({ collectionId: "x", filter: "id = a", resumeToken }))
    await fails(other, Code.InvalidArgument, "INVALID_RESUME_TOKEN")
    await fails(memory.importRecords(empty()), Code.InvalidArgument, "INVALID_FIELD")
  })

  it("searches by text, vector and record, alone and in a batch, before and after an index", async () => {
    const { collection } = await memory.createCollection({
      collection: { id: "s", embedder: "builtin-lexical-384", index: { case: "hnsw", value: {} } },
    })
    assert.equal(collection?.dimension, 384)
    const texts = [
      "Connection pools are configured by pool.max and pool.min.",
      "Circuit breakers open after five infrastructure errors.",
      "Bananas are yellow.",
    ]
    await memory.upsertRecords({
      collectionId: "s",
      records: texts.map((text, i) => ({ id: `t${i}`, text, metadata: { i } })),
    })
    const question = { target: { case: "text" as const, value: "configure the connection pool" } }
    const progress: OptimizePhase[] = []
    for (const round of ["exact", "index"]) {
      const { result } = await memory.search({ collectionId: "s", query: { ...question, k: 2 } })
      assert.deepEqual([result?.hits.length, result?.hits[0]?.record?.id], [2, "t0"], round)
      assert.equal(result?.hits[0]?.record?.text, texts[0])
      assert.equal(result?.degraded, false)
      for await (const { phase } of memory.optimizeCollection({ collectionId: "s" })) progress.push(phase)
    }
    assert.deepEqual([progress[0], progress.at(-1)], [OptimizePhase.ANALYZE, OptimizePhase.DONE])
    const { results } = await memory.batchSearch({
      collectionId: "s",
      queries: [
        { ...question, mode: SearchMode.KEYWORD },
        { ...question, mode: SearchMode.HYBRID, diversity: {}, recency: { halfLife: { seconds: 60n } } },
        { target: { case: "recordId", value: "t0" }, filter: "metadata.i > 1" },
        { target: { case: "vector", value: listed(...Array(384).fill(1)) }, view: RecordView.ID },
      ],
    })
    assert.deepEqual(results.map(({ hits }) => hits[0]?.record?.id).slice(0, 3), ["t0", "t0", "t2"])
    assert.equal(results[2]?.hits.length, 1)
    assert.equal(results[3]?.hits[0]?.record?.text, "")
  })

  it("answers the first result to a repeated request, generated ids included", async () => {
    await memory.createCollection({ collection: { id: "i", dimension: 1 } })
    const request = { collectionId: "i", records: [{ vector: packed(1) }], requestId: "once" }
    const first = await memory.upsertRecords(request)
    assert.deepEqual((await memory.upsertRecords(request)).receipts, first.receipts)
    assert.equal((await memory.countRecords({ collectionId: "i" })).count, 1n)
    const other = { ...request, records: [{ vector: packed(2) }] }
    await fails(memory.upsertRecords(other), Code.InvalidArgument, "REQUEST_ID_REUSED")
  })

  it("stays well when searches ask for too much or run out of time", async () => {
    await memory.createCollection({ collection: { id: "heavy", dimension: 2 } })
    const text = "heavy ".repeat(42_000)
    for (let i = 0; i < 60; i += 10) {
      const records = Array.from({ length: 10 }, (_, n) => ({
        id: `r${i + n}`,
        vector: packed(1, i + n),
        text,
      }))
      await memory.upsertRecords({ collectionId: "heavy", records })
    }
    const target = { case: "vector" as const, value: packed(1, 0) }
    const collectionId = "heavy"
    const tooMuch = memory.search({ collectionId, query: { target, k: 60 } })
    await fails(tooMuch, Code.InvalidArgument, "LIMIT_EXCEEDED", "query.k")
    const queries = Array.from({ length: 64 }, () => ({ target, k: 300 }))
    const batch = memory.batchSearch({ collectionId, queries })
    await fails(batch, Code.InvalidArgument, "LIMIT_EXCEEDED", "queries")
    const ids = Array.from({ length: 60 }, (_, i) => `r${i}`)
    await fails(memory.getRecords({ collectionId, ids }), Code.InvalidArgument, "LIMIT_EXCEEDED", "ids")
    const page = await memory.listRecords({ collectionId, pageSize: 60 })
    assert.ok(page.records.length > 0 && page.nextPageToken !== "")
    const words = queries.map((query) => ({ ...query, mode: SearchMode.KEYWORD, keywords: "heavy", k: 1 }))
    const late = memory.batchSearch({ collectionId, queries: words }, { timeoutMs: 5 })
    await assert.rejects(late, (error) => ConnectError.from(error).code === Code.DeadlineExceeded)
    const light = await memory.search({ collectionId, query: { target, k: 60, view: RecordView.ID } })
    assert.equal(light.result?.hits.length, 60)
  })

  it("refuses to change what is pinned, with a mask or without", async () => {
    const made = { id: "pinned", dimension: 2, metric: Metric.L2, description: "a" }
    await memory.createCollection({ collection: made })
    const update = (more: object) => memory.updateCollection({ collection: { ...made, ...more } })
    const changes: readonly (readonly [object, string])[] = [
      [{ dimension: 3 }, "collection.dimension"],
      [{ metric: Metric.COSINE }, "collection.metric"],
      [{ quantization: Quantization.HALF }, "collection.quantization"],
      [{ embedder: "builtin-lexical-384" }, "collection.embedder"],
      [{ index: { case: "flat", value: {} } }, "collection.index"],
    ]
    for (const [change, field] of changes) {
      await fails(update(change), Code.InvalidArgument, "INVALID_FIELD", field)
    }
    const { collection } = await update({ description: "b", quantization: Quantization.NONE })
    assert.equal(collection?.description, "b")
    assert.equal(
      (await memory.updateCollection({ collection })).collection?.description,
      "b",
      "as it was read",
    )
    const bare = await memory.updateCollection({ collection: { id: "pinned", description: "c" } })
    assert.equal(bare.collection?.description, "c")
  })

  it("names the field at fault", async () => {
    await memory.createCollection({ collection: { id: "bad", dimension: 2 } })
    const upsert = (record: object) =>
      memory.upsertRecords({ collectionId: "bad", records: [{ id: "v" }, record] })
    const search = (query: object) => memory.search({ collectionId: "bad", query })
    const vector = { case: "vector", value: packed(1, 0) } as const
    const list = { collectionId: "bad" }
    const cases: readonly (readonly [() => Promise<unknown>, string, Reason?])[] = [
      [
        () => memory.upsertRecords({ collectionId: "bad", records: [{ id: "v", vector: packed(1) }] }),
        "records[0].vector",
      ],
      [
        () => upsert({ vector: { data: { case: "packed", value: new Uint8Array(7) } } }),
        "records[1].vector.packed",
      ],
      [() => upsert({ vector: {} }), "records[1].vector.data"],
      [() => upsert({ id: "x".repeat(257), vector: packed(1, 0) }), "records[1].id"],
      [() => memory.upsertRecords({ collectionId: "bad" }), "records"],
      [() => memory.createCollection({}), "collection"],
      [() => memory.createCollection({ collection: { dimension: 2 } }), "collection"],
      [() => memory.createCollection({ collection: { id: "n" } }), "collection.dimension"],
      [() => memory.createCollection({ collection: { id: "n", dimension: 16_001 } }), "collection.dimension"],
      [
        () => memory.createCollection({ collection: { id: "n", dimension: 1, metric: 99 as Metric } }),
        "collection.metric",
      ],
      [() => memory.listRecords({ ...list, pageSize: -1 }), "page_size"],
      [() => memory.listRecords({ ...list, pageToken: "forged" }), "", "INVALID_PAGE_TOKEN"],
      [() => memory.listRecords({ ...list, orderBy: "text" }), "order_by"],
      [() => memory.listRecords({ ...list, filter: "metadata.a >" }), "filter", "INVALID_FILTER"],
      [() => search({}), "query.target"],
      [() => search({ target: vector, k: 1001 }), "query.k"],
      [() => search({ target: vector, mode: 77 }), "query.mode"],
      [() => search({ target: { case: "text", value: "x" }, mode: SearchMode.DENSE }), "query.text"],
      [() => search({ target: vector, filter: "nope = 1" }), "filter", "INVALID_FILTER"],
      [() => memory.getRecords({ ...list, ids: ["a\0"] }), "ids[0]"],
      [() => memory.deleteRecords({ ...list, selection: { case: "filter", value: " " } }), "filter"],
    ]
    for (const [call, field, reason] of cases) {
      await fails(call(), Code.InvalidArgument, reason ?? "INVALID_FIELD", field)
    }
    const missing = memory.search({ collectionId: "nobody", query: { target: vector } })
    await fails(missing, Code.NotFound, "NOT_FOUND")
  })
})

async function* empty(): AsyncGenerator<never> {}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}

async function fails(call: Promise<unknown>, code: Code, reason: Reason, field = ""): Promise<void> {
  try {
    await call
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error))
    const told = `${error.message} ${JSON.stringify(error.findDetails(BadRequestSchema))}`
    assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, reason, told)
    assert.equal(error.code, code)
    const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations)
    if (field !== "") assert.equal(violations[0]?.field, field, told)
    return
  }
  assert.fail(`did not fail with ${reason} ${field}`)
}
