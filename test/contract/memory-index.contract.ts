/** What an index must not change: how many records a filtered search finds, and what words find. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { optimizeCollection } from "../../src/domain/memory/optimize-collection.ts"
import { type SearchQuery, searchRecords } from "../../src/domain/memory/search-records.ts"
import {
  collect,
  depsOf,
  filter,
  freshCollection,
  type MemoryHarness,
  put,
  query,
  record,
} from "./memory-support.ts"

const DIMENSION = 8
const RECORDS = 1_500
/** One in a hundred records passes the filter. */
const EVERY = 100

/** Numbers between -1 and 1, the same in every run. */
function sequence(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0
    return state / 2_147_483_648 - 1
  }
}

async function search(h: MemoryHarness, scope: CallScope, more: Partial<SearchQuery>) {
  const [hits] = await searchRecords(depsOf(h), scope, "c", [query(more)], () => "query")
  return hits?.map(({ record: { id }, score }) => ({ id, score })) ?? []
}

/** Registers the suite. */
export function memoryIndexContract(make: () => Promise<MemoryHarness>): void {
  describe("memory indexes", () => {
    let h: MemoryHarness
    before(async () => {
      h = await make()
    })
    after(() => h.close())
    filterTests(() => h)
    wordTests(() => h)
    endTests(() => h)
    goneTests(() => h)
  })
}

function endTests(h: () => MemoryHarness): void {
  it("an optimisation ends while somebody writes faster than it indexes", async () => {
    const { scope } = await freshCollection(h(), { index: { kind: "HNSW", m: 4, efConstruction: 16 } })
    const batch = (from: number) =>
      Array.from({ length: 50 }, (_, i) => record(`r${from + i}`, [1, from + i]))
    await put(h(), scope, ...batch(0))
    let written = 50
    let state = ""
    for await (const progress of optimizeCollection(h().store, scope, "c", false)) {
      state = progress.state
      await put(h(), scope, ...batch(written))
      written += 50
    }
    assert.match(state, /^(BUILDING|READY)$/)
    assert.equal(await h().store.count(scope, await h().store.getCollection(scope, "c"), undefined), written)
    const nearest = await search(h(), scope, {
      target: { kind: "vector", vector: Float32Array.of(1, 0) },
      k: 1,
    })
    assert.equal(nearest[0]?.id, "r0")
  })
}

function goneTests(h: () => MemoryHarness): void {
  it("where the nearest have been deleted, those behind them are found", async () => {
    const { scope } = await freshCollection(h(), { index: { kind: "HNSW", m: 8, efConstruction: 32 } })
    const drafts = Array.from({ length: 600 }, (_, i) => record(`r${i}`, [1, i / 600]))
    await put(h(), scope, ...drafts)
    await collect(optimizeCollection(h().store, scope, "c", false))
    await h().store.delete(scope, "c", { ids: drafts.slice(0, 500).map(({ id }) => id) })
    const target = { kind: "vector", vector: Float32Array.of(1, 0) } as const
    const found = await search(h(), scope, { target, k: 10 })
    assert.deepEqual(
      found.map(({ id }) => id),
      Array.from({ length: 10 }, (_, i) => `r${500 + i}`),
    )
    assert.equal((await search(h(), scope, { target, k: 100 })).length, 100)
    assert.equal((await search(h(), scope, { target, k: 200 })).length, 100)
  })
}

function filterTests(h: () => MemoryHarness): void {
  for (const [index, metric, quantization] of [
    [{ kind: "HNSW", m: 8, efConstruction: 32 }, "COSINE", "HALF"],
    [{ kind: "HNSW", m: 8, efConstruction: 32 }, "INNER_PRODUCT", "NONE"],
    [{ kind: "IVF_FLAT", lists: 20 }, "L2", "NONE"],
    [{ kind: "IVF_FLAT", lists: 20 }, "COSINE", "HALF"],
  ] as const) {
    it(`${index.kind} with ${metric} and ${quantization}: a filter that one in a hundred passes still finds k`, async () => {
      const { scope } = await freshCollection(h(), { index, metric, quantization, dimension: DIMENSION })
      const next = sequence(7)
      const drafts = Array.from({ length: RECORDS }, (_, i) =>
        record(`r${i}`, Array.from({ length: DIMENSION }, next), { metadata: { rare: i % EVERY === 0 } }),
      )
      for (let at = 0; at < RECORDS; at += 500) await put(h(), scope, ...drafts.slice(at, at + 500))
      const done = await collect(optimizeCollection(h().store, scope, "c", false))
      assert.equal(done.at(-1)?.state, "READY")
      const exist = RECORDS / EVERY
      let found = 0
      for (let n = 0; n < 10; n++) {
        const vector = Float32Array.from({ length: DIMENSION }, next)
        const rare = { target: { kind: "vector", vector }, filter: filter("metadata.rare = true") } as const
        assert.equal((await search(h(), scope, { ...rare, k: exist })).length, exist)
        const approximate = await search(h(), scope, { ...rare, k: 10 })
        assert.equal(approximate.length, 10)
        const exact = new Set((await search(h(), scope, { ...rare, k: 10, exact: true })).map(({ id }) => id))
        found += approximate.filter(({ id }) => exact.has(id)).length
      }
      assert.ok(found >= 70, `of the hundred nearest, ${found} were found`)
    })
  }
}

function wordTests(h: () => MemoryHarness): void {
  it("words find the same records in the same order with an index as without", async () => {
    const index = { kind: "HNSW", m: 8, efConstruction: 32 } as const
    const { scope } = await freshCollection(h(), { index })
    const neighbour = await freshCollection(h(), { index })
    const words = ["alpha", "beta", "gamma", "delta", "it's", "naïve", "日本", "back\\slash", "x'y"]
    const next = sequence(11)
    const text = () => Array.from({ length: 6 }, () => words[Math.floor((next() + 1) * 4.49)]).join(" ")
    const drafts = Array.from({ length: 200 }, (_, i) => record(`r${i}`, [1, i], { text: text() }))
    await put(h(), scope, ...drafts)
    await put(h(), neighbour.scope, ...drafts, record("theirs", [1, 1], { text: "secret alpha" }))
    const ask = (keywords: string, more: Partial<SearchQuery> = {}) =>
      search(h(), scope, { target: { kind: "text", text: keywords }, mode: "KEYWORD", k: 50, ...more })
    const questions = [...words, "alpha beta", "delta x'y 日本", "nothing", "secret", "--", "alpha & !beta"]
    const answers = () => Promise.all(questions.map((keywords) => ask(keywords)))
    const before = await answers()
    assert.ok((before[0]?.length ?? 0) > 0)
    for (const { scope: each } of [{ scope }, neighbour]) {
      await collect(optimizeCollection(h().store, each, "c", false))
    }
    assert.deepEqual(await answers(), before)
    await put(
      h(),
      scope,
      record("r0", [1, 0], { text: "epsilon" }),
      record("new", [1, 0], { text: "zeta zeta" }),
    )
    await h().store.delete(scope, "c", { ids: ["r1"] })
    assert.deepEqual((await ask("epsilon zeta")).map(({ id }) => id).sort(), ["new", "r0"])
    for (const gone of ["r0", "r1"]) {
      const hits = await ask("alpha beta gamma delta", { k: 200 })
      assert.ok(!hits.some(({ id }) => id === gone), gone)
    }
    assert.deepEqual(await ask("secret"), [])
    assert.equal((await ask("alpha", { filter: filter("id = r5 OR id = new OR id = r6") })).length <= 2, true)
  })
}
