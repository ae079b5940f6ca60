/** Records in a vector store move like others: into another one, and home where there is none. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ALL_PARTS, type StorageMode } from "../../src/domain/memory/model.ts"
import { createMemoryArchive } from "../../src/stores/memory/archive.ts"
import { createRoutedMemoryStore } from "../../src/stores/memory/index.ts"
import type { MilvusEngine } from "../../src/stores/milvus/index.ts"
import { createSqlMemoryArchive } from "../../src/stores/postgres/archive-memory.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createDirectLedger, createMirrorSource } from "../../src/stores/postgres/memory-elsewhere.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { embeddedDatabase, freshTenant } from "../engines/pglite.ts"
import { exported, imported, itemsIn, type Place, sqlPlace } from "./archive-support.ts"

const scope = systemScope(freshTenant())
const VECTOR = Float32Array.of(0.1, -0.7, 3)

interface Mix {
  readonly sql: SqlEngine
  readonly place: Place
  readonly store: ReturnType<typeof createRoutedMemoryStore>
}

function mixOf(sql: SqlEngine, milvus: MilvusEngine): Mix {
  const { database, capabilities } = sql
  const registry = createMemoryStore({ database, clock: systemClock, concurrency: capabilities.concurrency })
  const source = createMirrorSource(database, systemClock, undefined)
  const { vectors } = milvus
  const archive = createMemoryArchive({
    local: createSqlMemoryArchive(sql),
    registry,
    elsewhere: { vectors, source, engine: vectors.capabilities.engine },
  })
  const ledger = createDirectLedger(database)
  const store = createRoutedMemoryStore({ registry, vectors, ledger, source, clock: systemClock })
  return { sql, place: sqlPlace(sql, [archive]), store }
}

const on = milvusLite.skip === false ? milvusLite : milvusStandalone

describe(`an archive on ${on.name}`, { skip: on.skip, timeout: 600_000 }, () => {
  let mix: Mix
  let archive: string[] = []

  before(async () => {
    mix = mixOf(await embeddedDatabase(), await testMilvus(on))
    for (const mode of ["DIRECT", "MIRRORED", "LOCAL"] satisfies StorageMode[]) {
      const collection = await mix.store.createCollection(scope, {
        id: mode.toLowerCase(),
        description: "",
        labels: {},
        dimension: 3,
        metric: "COSINE",
        quantization: "NONE",
        index: { kind: "FLAT" },
        embedder: "",
        defaultTtlMs: undefined,
        storageMode: mode,
      })
      const records = Array.from({ length: 150 }, (_, n) => ({
        id: `r${n}`,
        text: `word ${n}`,
        vector: VECTOR.map((component) => component + n),
        metadata: { n, deep: { a: [1, null, "x"] } },
        expireTimeMs: n === 7 ? 4_000_000_000_000 : undefined,
        ifRevisionMatch: undefined,
      }))
      await mix.store.upsert(scope, collection, records)
    }
    archive = await exported(mix.place, scope.tenant)
  })
  after(async () => {
    await mix?.sql.close()
  })

  it("has the records of every collection, wherever they lie", () => {
    const records = archive.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "record")
    const counts = Object.groupBy(records, ({ collection }) => collection)
    assert.deepEqual(Object.keys(counts).sort(), ["direct", "local", "mirrored"])
    for (const own of Object.values(counts)) assert.equal(own?.length, 150)
  })

  it("goes into another vector store as it was", async () => {
    const other = mixOf(await embeddedDatabase(), await testMilvus(on))
    try {
      await imported(other.place, archive)
      assert.deepEqual(itemsIn(await exported(other.place, scope.tenant)), itemsIn(archive))
      const collection = await other.store.getCollection(scope, "direct")
      const [record] = await other.store.get(scope, collection, ["r7"], ALL_PARTS)
      assert.deepEqual(
        record?.vector,
        VECTOR.map((component) => component + 7),
      )
      assert.equal(record?.expireTimeMs, 4_000_000_000_000)
      // Copies of mirrored records are owed to the vector store.
      const owed = await other.sql.database.query(scope, {
        text: "select 1 from outbox where tenant = $1 and topic = 'memory-mirror'",
        values: [scope.tenant],
      })
      assert.ok(owed.rows.length > 0)
    } finally {
      await other.sql.close()
    }
  })

  it("comes home where there is no vector store, and says so", async () => {
    const sql = await embeddedDatabase()
    const { database, capabilities } = sql
    const home = createMemoryArchive({
      local: createSqlMemoryArchive(sql),
      registry: createMemoryStore({ database, clock: systemClock, concurrency: capabilities.concurrency }),
      elsewhere: undefined,
    })
    try {
      const place = sqlPlace(sql, [home])
      const notes = await imported(place, archive)
      assert.match(notes.join(), /records of direct, mirrored are kept in the memory store/)
      const local = (lines: readonly string[]) =>
        itemsIn(lines.map((line) => line.replace(/"storageMode":"\w+"/, '"storageMode":"LOCAL"')))
      assert.deepEqual(local(await exported(place, scope.tenant)), local(archive))
    } finally {
      await sql.close()
    }
  })
})
