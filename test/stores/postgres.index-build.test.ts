/** Vector indexes on servers: built, rebuilt and dropped while others write, and put in order after a crash. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { setTimeout as delay } from "node:timers/promises"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { type CallScope, PLATFORM_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import type { Collection, CollectionDraft, IndexSpec } from "../../src/domain/memory/model.ts"
import { maintainIndexes, optimizeCollection } from "../../src/domain/memory/optimize-collection.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { freshTenant } from "../engines/pglite.ts"
import { postgresServers, serverDatabase } from "../engines/postgres.ts"

const DIMENSION = 32
const platform = systemScope(PLATFORM_TENANT)

function draft(index: IndexSpec): CollectionDraft {
  return {
    id: "c",
    description: "",
    labels: {},
    dimension: DIMENSION,
    metric: "L2",
    quantization: "NONE",
    index,
    embedder: "",
    defaultTtlMs: undefined,
  }
}

/** Numbers that are the same in every run. */
function sequence(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0
    return state / 4_294_967_296
  }
}

type Store = ReturnType<typeof createMemoryStore>

function write(store: Store, scope: CallScope, collection: Collection, from: number, count: number) {
  const next = sequence(from + 1)
  const records = Array.from({ length: count }, (_, i) => ({
    id: `r${from + i}`,
    text: "",
    metadata: { i: from + i },
    vector: Float32Array.from({ length: DIMENSION }, next),
    expireTimeMs: undefined,
    ifRevisionMatch: undefined,
  }))
  return store.upsert(scope, collection, records)
}

async function filled(store: Store, count: number, index: IndexSpec) {
  const scope = systemScope(freshTenant())
  const collection = await store.createCollection(scope, draft(index))
  for (let at = 0; at < count; at += 500) await write(store, scope, collection, at, 500)
  return { scope, collection }
}

async function indexes(engine: SqlEngine, collection: Collection) {
  const { rows } = await engine.database.query<{ name: string; valid: boolean; oid: bigint }>(platform, {
    text: `select i.relname as name, x.indisvalid as valid, i.oid::int8 as oid from pg_index x join pg_class i on i.oid = x.indexrelid
      where x.indrelid = 'memory_records'::regclass and i.relname ~ $1 order by 1`,
    values: [`^memory_ann_${collection.ref}(_|$)`],
  })
  return rows
}

/** Waits, for as long as the test may last, until the condition holds. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(5)
}

async function optimize(store: Store, scope: CallScope, rebuild: boolean): Promise<void> {
  for await (const progress of optimizeCollection(store, scope, "c", rebuild)) void progress
}

async function nearest(store: Store, scope: CallScope, id: string, vector: Float32Array): Promise<void> {
  const collection = await store.getCollection(scope, "c")
  const [answer] = await store.search(scope, collection, [
    {
      filter: undefined,
      parts: { text: false, metadata: false, vector: false },
      dense: { vector, limit: 5, exact: false, efSearch: 100 },
      keyword: undefined,
    },
  ])
  assert.equal(answer?.dense[0]?.record.id, id)
  assert.equal(answer?.dense.length, 5)
}

for (const server of postgresServers) {
  describe(`indexes on ${server.name}`, { skip: server.skip, timeout: 600_000 }, () => {
    const open = async () => {
      const engine = await serverDatabase(await server.url())
      const { database, maintenance } = engine
      const store = createMemoryStore({ database, clock: systemClock, concurrency: 4, maintenance })
      return { engine, store }
    }

    for (const index of [
      { kind: "HNSW", m: 16, efConstruction: 64 },
      { kind: "IVF_FLAT", lists: 20 },
    ] as const) {
      it(`${index.kind}: everybody reads and writes while it is built, rebuilt and dropped`, async () => {
        const { engine, store } = await open()
        const { scope, collection } = await filled(store, 10_000, index)
        const other = await filled(store, 500, { kind: "FLAT" })
        const probe = Float32Array.from({ length: DIMENSION }, sequence(1))
        const during = async (rebuild: boolean, from: number) => {
          // A build cannot end while somebody who began before it is still writing, so this one lasts as long as we want.
          let release = (): void => {}
          const gate = new Promise<void>((resolve) => {
            release = resolve
          })
          let began = (): void => {}
          const writing = new Promise<void>((resolve) => {
            began = resolve
          })
          const holder = engine.database.transaction(other.scope, async (tx) => {
            await tx.query({
              text: "update memory_records set body = 'held' where tenant = $1 and id = 'r0'",
              values: [other.scope.tenant],
            })
            began()
            await gate
          })
          await writing
          const building = optimize(store, scope, rebuild)
          await until(async () => (await indexes(engine, collection)).some(({ valid }) => !valid))
          let writes = 0
          for (let i = 0; i < 100; i++) {
            await write(store, scope, collection, from + i, 1)
            await write(store, other.scope, other.collection, 1 + i, 1)
            writes += 2
          }
          await nearest(store, scope, "r0", probe)
          assert.ok(
            (await indexes(engine, collection)).some(({ valid }) => !valid),
            "it is being built still",
          )
          release()
          await holder
          await building
          assert.equal(writes, 200)
          const made = await indexes(engine, collection)
          assert.deepEqual(
            made.map(({ name, valid }) => [name, valid]),
            [[`memory_ann_${collection.ref}`, true]],
          )
          await nearest(store, scope, "r0", probe)
          return made[0]?.oid
        }
        const first = await during(false, 20_000)
        assert.notEqual(await during(true, 30_000), first)
        assert.equal(await store.count(scope, collection, undefined), 10_200)
        await store.deleteCollection(scope, "c", undefined)
        await maintainIndexes(store, { budgetMs: 60_000, signal: AbortSignal.timeout(60_000) })
        assert.deepEqual(await indexes(engine, collection), [])
        await store.close()
        await engine.close()
      })
    }

    it("what a killed build left is removed, and the index is made", async () => {
      const { engine, store } = await open()
      const { scope, collection } = await filled(store, 2_000, { kind: "HNSW", m: 8, efConstruction: 32 })
      let left = (): void => {}
      const stopped = new Promise<void>((resolve) => {
        left = resolve
      })
      const holder = engine.database.transaction(scope, async (tx) => {
        await tx.query({ text: "select 1 from memory_records limit 1 for share" })
        await stopped
      })
      const building = optimize(store, scope, false)
      const outcome = building.then(
        () => "ended",
        () => "failed",
      )
      await until(async () => (await indexes(engine, collection)).length > 0)
      await engine.maintenance?.((session) =>
        session.script(
          "select pg_terminate_backend(pid) from pg_stat_activity where query like 'create index concurrently%' and datname = current_database() and pid <> pg_backend_pid()",
        ),
      )
      assert.equal(await outcome, "failed")
      left()
      await holder
      assert.deepEqual(
        (await indexes(engine, collection)).map(({ valid }) => valid),
        [false],
      )
      assert.equal((await store.getCollection(scope, "c")).indexState, "BUILDING")
      await nearest(store, scope, "r0", Float32Array.from({ length: DIMENSION }, sequence(1)))
      await maintainIndexes(store, { budgetMs: 60_000, signal: AbortSignal.timeout(60_000) })
      assert.deepEqual(
        (await indexes(engine, collection)).map(({ valid }) => valid),
        [true],
      )
      assert.equal((await store.getCollection(scope, "c")).indexState, "READY")
      await store.close()
      await engine.close()
    })

    it("a login that does not own the table has its indexes made all the same", async () => {
      const { engine } = await open()
      const { database } = engine
      const denied: typeof engine.maintenance = (work) =>
        engine.maintenance?.(async (session) => {
          await session.assume("app")
          return work(session)
        }) ?? Promise.reject(new Error("a server has it"))
      const store = createMemoryStore({ database, clock: systemClock, concurrency: 4, maintenance: denied })
      const { scope, collection } = await filled(store, 1_000, { kind: "IVF_FLAT", lists: 0 })
      await optimize(store, scope, false)
      const [first] = await indexes(engine, collection)
      await optimize(store, scope, true)
      const [second] = await indexes(engine, collection)
      assert.deepEqual([first?.valid, second?.valid], [true, true])
      assert.notEqual(first?.oid, second?.oid)
      await store.deleteCollection(scope, "c", undefined)
      await store.indexBacklog(platform)
      assert.deepEqual(await indexes(engine, collection), [])
      await store.close()
      await engine.close()
    })

    it("a build ends with its caller", async () => {
      const { engine, store } = await open()
      const { scope, collection } = await filled(store, 500, { kind: "HNSW", m: 8, efConstruction: 32 })
      let left = (): void => {}
      const stopped = new Promise<void>((resolve) => {
        left = resolve
      })
      const holder = engine.database.transaction(scope, async (tx) => {
        await tx.query({ text: "select 1 from memory_records limit 1 for share" })
        await stopped
      })
      const caller = new AbortController()
      const building = optimize(store, systemScope(scope.tenant, caller.signal), false)
      await until(async () => (await indexes(engine, collection)).length > 0)
      caller.abort()
      await assert.rejects(building)
      await until(async () => {
        const { rows } = await engine.database.query<{ running: bigint }>(platform, {
          text: "select count(*) as running from pg_stat_activity where query like 'create index concurrently%' and state = 'active'",
        })
        return rows[0]?.running === 0n
      })
      left()
      await holder
      await store.close()
      await engine.close()
    })
  })
}
