/** What every engine of the Memory plane must do: searches, ranking and indexes. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { ALL_PARTS, ID_ONLY } from "../../src/domain/memory/model.ts"
import { maintainIndexes, optimizeCollection } from "../../src/domain/memory/optimize-collection.ts"
import type { MemoryStore } from "../../src/domain/memory/ports.ts"
import { type SearchQuery, searchRecords } from "../../src/domain/memory/search-records.ts"
import {
  collect,
  depsOf,
  filter,
  freshCollection,
  type MemoryHarness,
  makeCollection,
  put,
  query,
  record,
  rejects,
} from "./memory-support.ts"

/** Registers the suite. `exceptions`: reasons by the names of tests that an engine cannot pass. */
export function memorySearchContract(
  make: () => Promise<MemoryHarness>,
  exceptions: Record<string, string> = {},
): void {
  let h: MemoryHarness
  const check = (name: string, work: () => Promise<void>): void => {
    it(name, { skip: exceptions[name] ?? false }, work)
  }
  describe("memory search", () => {
    before(async () => {
      h = await make()
    })
    denseTests(() => h, check)
    keywordTests(() => h, check)
    rankTests(() => h, check)
    indexTests(() => h, check)
    sizeTests(() => h, check)
    after(() => h.close())
  })
}

type Check = (name: string, work: () => Promise<void>) => void

async function search(h: MemoryHarness, scope: CallScope, more: Partial<SearchQuery>) {
  const [hits] = await searchRecords(depsOf(h), scope, "c", [query(more)], () => "query")
  assert.ok(hits !== undefined)
  return hits
}

async function ids(
  h: MemoryHarness,
  scope: CallScope,
  more: Partial<SearchQuery>,
): Promise<readonly string[]> {
  return (await search(h, scope, more)).map((hit) => hit.record.id)
}

function denseTests(h: () => MemoryHarness, check: Check): void {
  const vectors = { same: [2, 0], near: [2, 1], far: [0, 3], opposite: [-1, 0] } as const
  const scores = {
    COSINE: { same: 1, near: 2 / Math.sqrt(5), far: 0, opposite: -1 },
    INNER_PRODUCT: { same: 2, near: 2, far: 0, opposite: -1 },
    L2: { same: 1 / 2, near: 1 / (1 + Math.SQRT2), far: 1 / (1 + Math.sqrt(10)), opposite: 1 / 3 },
    L1: { same: 1 / 2, near: 1 / 3, far: 1 / 5, opposite: 1 / 3 },
  } as const
  for (const metric of ["COSINE", "INNER_PRODUCT", "L2", "L1"] as const) {
    for (const quantization of ["NONE", "HALF"] as const) {
      check(`scores ${metric} with ${quantization}: higher is better`, async () => {
        const { scope } = await freshCollection(h(), { metric, quantization })
        await put(h(), scope, ...Object.entries(vectors).map(([id, vector]) => record(id, vector)))
        const hits = await search(h(), scope, {})
        const expected = Object.entries(scores[metric]).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
        assert.deepEqual(
          hits.map((hit) => hit.record.id),
          expected.map(([id]) => id),
        )
        for (const [i, hit] of hits.entries()) {
          assert.ok(Math.abs(hit.score - (expected[i]?.[1] ?? 0)) < 1e-6, `${hit.record.id} ${hit.score}`)
          assert.equal(hit.denseScore, hit.score)
          assert.equal(hit.keywordScore, undefined)
        }
      })
    }
  }

  check("pages by offset, cuts off by score and answers the parts asked for", async () => {
    const { scope } = await freshCollection(h())
    const records = Array.from({ length: 9 }, (_, i) =>
      record(`r${i}`, [1, i], { text: `t${i}`, metadata: { i } }),
    )
    await put(h(), scope, ...records)
    assert.deepEqual(await ids(h(), scope, { k: 3, offset: 2 }), ["r2", "r3", "r4"])
    assert.deepEqual(await ids(h(), scope, { minScore: 0.7 }), ["r0", "r1"])
    assert.deepEqual(await ids(h(), scope, { offset: 100 }), [])
    const [bare] = await search(h(), scope, { k: 1, parts: ID_ONLY })
    assert.deepEqual(
      [bare?.record.text, bare?.record.metadata, bare?.record.vector],
      [undefined, undefined, undefined],
    )
    const [full] = await search(h(), scope, { k: 1, parts: ALL_PARTS })
    assert.deepEqual([full?.record.text, full?.record.metadata], ["t0", { i: 0 }])
    assert.deepEqual(full?.record.vector, Float32Array.of(1, 0))
  })

  check("searches by a text and by a stored record, which it leaves out", async () => {
    const { scope } = await freshCollection(h(), { embedder: "letters", dimension: 0 })
    const texts = ["aaaa", "aaab", "abbb", "bbbb"]
    await put(h(), scope, ...texts.map((text) => record(text, undefined, { text })))
    assert.deepEqual(await ids(h(), scope, { target: { kind: "text", text: "aaaaa" } }), texts)
    assert.deepEqual(await ids(h(), scope, { target: { kind: "record", id: "bbbb" }, k: 3 }), [
      "abbb",
      "aaab",
      "aaaa",
    ])
    await rejects(search(h(), scope, { target: { kind: "record", id: "nobody" } }), "NOT_FOUND")
    const error = await rejects(search(h(), scope, {}), "INVALID_FIELD")
    assert.equal(error.violations[0]?.field, "query.vector")
  })

  check("sees a write at once, and neither deleted nor expired records", async () => {
    const { scope } = await freshCollection(h())
    await put(
      h(),
      scope,
      record("a", [1, 0]),
      record("b", [1, 0.1], { expiration: { kind: "ttl", ttlMs: 1_000 } }),
    )
    assert.deepEqual(await ids(h(), scope, {}), ["a", "b"])
    await put(h(), scope, record("a", [0, 1]), record("c", [1, 0]))
    assert.deepEqual(await ids(h(), scope, {}), ["c", "b", "a"])
    await h().store.delete(scope, "c", { ids: ["c"] })
    h().clock.nowMs += 1_000
    assert.deepEqual(await ids(h(), scope, {}), ["a"])
  })

  check("sees at once what another daemon has made of a collection that was searched before", async () => {
    const { scope, collection } = await freshCollection(h())
    const { store } = h()
    const across = { target: { kind: "vector", vector: Float32Array.of(1, 0, 0) } } as const
    await put(h(), scope, record("a", [1, 0]))
    for (let i = 0; i < 2; i++) assert.deepEqual(await ids(h(), scope, {}), ["a"])
    await rejects(search(h(), scope, across), "INVALID_FIELD")
    const updated = await store.updateCollection(scope, "c", { description: "other" }, undefined)
    const dense = { vector: Float32Array.of(1, 0), limit: 1, exact: false, efSearch: 10 }
    const asked = [{ filter: undefined, parts: ID_ONLY, dense, keyword: undefined }]
    assert.equal((await store.searchKnown(scope, collection, asked)).answers, undefined)
    const seen = await store.searchKnown(scope, updated, asked)
    assert.deepEqual(
      seen.answers?.map(({ dense }) => dense.map((each) => each.record.id)),
      [["a"]],
    )
    assert.equal(seen.collection.description, "other")
    assert.deepEqual(await ids(h(), scope, {}), ["a"])
    await store.deleteCollection(scope, "c", undefined)
    for (const how of [{}, across]) await rejects(search(h(), scope, how), "NOT_FOUND")
    await makeCollection(h(), scope, { dimension: 3 })
    await put(h(), scope, record("b", [1, 0, 0]))
    await rejects(search(h(), scope, {}), "INVALID_FIELD")
    assert.deepEqual(await ids(h(), scope, across), ["b"])
    assert.deepEqual(await ids(h(), scope, { target: { kind: "record", id: "b" } }), [])
  })

  check("reads a collection that was searched before no more often than it has to", async () => {
    const { scope } = await freshCollection(h())
    const { store } = h()
    const reads: string[] = []
    const counting: MemoryStore = {
      ...store,
      getCollection: (...args) => {
        reads.push("collection")
        return store.getCollection(...args)
      },
      searchKnown: (...args) => {
        reads.push("search and collection")
        return store.searchKnown(...args)
      },
      search: (...args) => {
        reads.push("search")
        return store.search(...args)
      },
    }
    const seen = async (more: Partial<SearchQuery>, expected: readonly string[]) => {
      reads.length = 0
      const deps = { ...depsOf(h()), store: counting }
      const [hits = []] = await searchRecords(deps, scope, "c", [query(more)], () => "query")
      assert.deepEqual(
        hits.map((hit) => hit.record.id),
        expected,
      )
      return reads.join(", ")
    }
    await put(h(), scope, record("a", [1, 0]))
    assert.equal(await seen({}, ["a"]), "collection, search")
    assert.equal(await seen({}, ["a"]), "search and collection")
    await store.updateCollection(scope, "c", { description: "other" }, undefined)
    // It was told how the collection is now.
    assert.equal(await seen({}, ["a"]), "search and collection, search")
    assert.equal(await seen({}, ["a"]), "search and collection")
    await store.deleteCollection(scope, "c", undefined)
    await makeCollection(h(), scope, { dimension: 3 })
    await put(h(), scope, record("b", [1, 0, 0]))
    const across = { target: { kind: "vector", vector: Float32Array.of(1, 0, 0) } } as const
    // What would be wrong for the collection that it was is no reason to ask, but to look again.
    assert.equal(await seen(across, ["b"]), "collection, search")
    assert.equal(await seen(across, ["b"]), "search and collection")
  })

  check("answers a batch in order, each query by its own rules", async () => {
    const { scope } = await freshCollection(h())
    await put(
      h(),
      scope,
      record("x", [1, 0], { text: "red fox" }),
      record("y", [0, 1], { text: "blue bird" }),
    )
    const results = await searchRecords(
      depsOf(h()),
      scope,
      "c",
      [
        query({}),
        query({ target: { kind: "vector", vector: Float32Array.of(0, 1) }, k: 1 }),
        query({ target: { kind: "text", text: "fox" } }),
        query({ filter: filter("id = y") }),
        query({ target: { kind: "record", id: "x" } }),
      ],
      (i) => `queries[${i}]`,
    )
    assert.deepEqual(
      results.map((hits) => hits.map((hit) => hit.record.id)),
      [["x", "y"], ["y"], ["x"], ["y"], ["y"]],
    )
    const bad = [query({}), query({ target: { kind: "vector", vector: Float32Array.of(1) } })]
    const error = await rejects(
      searchRecords(depsOf(h()), scope, "c", bad, (i) => `queries[${i}]`),
      "INVALID_FIELD",
    )
    assert.equal(error.violations[0]?.field, "queries[1].vector")
  })
}

function keywordTests(h: () => MemoryHarness, check: Check): void {
  const texts = {
    rare: "the zebra sleeps",
    common: "the cat and the dog",
    both: "the cat saw a zebra",
    none: "nothing to see",
    odd: `it's "quoted" back\\slash & | ! <-> :*`,
  }

  check("finds words and weighs rare ones higher", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, ...Object.entries(texts).map(([id, text]) => record(id, [1, 0], { text })))
    const words = (text: string) => ids(h(), scope, { target: { kind: "text", text } })
    assert.deepEqual(await words("Zebra"), ["rare", "both"])
    assert.deepEqual((await words("cat zebra"))[0], "both")
    assert.deepEqual((await words("the zebra"))[0], "rare")
    assert.deepEqual(await words("elephant"), [])
    assert.deepEqual(await words("& | ! ' \\ <->"), [])
    assert.deepEqual((await words("quoted' | \\'zebra & !!")).toSorted(), ["both", "odd", "rare"])
    const hits = await search(h(), scope, { target: { kind: "text", text: "cat" } })
    for (const hit of hits) {
      assert.ok(hit.score > 0)
      assert.equal(hit.keywordScore, hit.score)
    }
  })

  check("needs words, and an embedder where text is to be compared by vector", async () => {
    const { scope } = await freshCollection(h())
    await rejects(search(h(), scope, { mode: "KEYWORD" }), "INVALID_FIELD")
    await rejects(search(h(), scope, { mode: "DENSE", target: { kind: "text", text: "a" } }), "INVALID_FIELD")
    await rejects(search(h(), scope, { mode: "HYBRID" }), "INVALID_FIELD")
  })
}

function rankTests(h: () => MemoryHarness, check: Check): void {
  const hybrid = async () => {
    const made = await freshCollection(h())
    await put(
      h(),
      made.scope,
      record("vector", [1, 0], { text: "nothing" }),
      record("both", [1, 0.5], { text: "apple pie" }),
      record("word", [-1, 0], { text: "apple apple apple" }),
    )
    return made.scope
  }

  check("fuses by ranks and by weights", async () => {
    const scope = await hybrid()
    const base = { mode: "HYBRID", keywords: "apple" } as const
    const fused = await search(h(), scope, base)
    const by = new Map(fused.map((hit) => [hit.record.id, hit]))
    const ranked = (id: string): readonly number[] => {
      const hit = by.get(id)
      return [hit?.denseScore === undefined ? 0 : 1, hit?.keywordScore === undefined ? 0 : 1]
    }
    assert.deepEqual(
      [ranked("vector"), ranked("both"), ranked("word")],
      [
        [1, 0],
        [1, 1],
        [1, 1],
      ],
    )
    assert.ok(Math.abs((by.get("vector")?.score ?? 0) - 1 / 61) < 1e-12)
    const weights = (dense: number, keyword: number) =>
      ids(h(), scope, { ...base, fusion: { kind: "weighted", dense, keyword } })
    assert.equal((await weights(1, 0))[0], "vector")
    assert.equal((await weights(0, 1))[0], (await ids(h(), scope, { mode: "KEYWORD", keywords: "apple" }))[0])
    await rejects(weights(0, 0), "INVALID_FIELD")
  })

  check("prefers newer records by half-life", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, record("old", [1, 0]), record("old-opposite", [-1, 0]))
    h().clock.nowMs += 10_000
    await put(h(), scope, record("new", [1, 0.3]))
    assert.equal((await ids(h(), scope, {}))[0], "old")
    const hits = await search(h(), scope, { recencyHalfLifeMs: 10_000 })
    assert.deepEqual(
      hits.map((hit) => hit.record.id),
      ["new", "old", "old-opposite"],
    )
    assert.ok(Math.abs((hits[1]?.score ?? 0) - 0.5) < 1e-6)
    assert.ok(Math.abs((hits[2]?.score ?? 0) + 1.5) < 1e-6)
    assert.ok(Math.abs((hits[1]?.denseScore ?? 0) - 1) < 1e-6)
  })

  check("spreads results by maximal marginal relevance", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, record("a", [1, 0]), record("a-twin", [1, 0.01]), record("other", [1, 1]))
    assert.deepEqual(await ids(h(), scope, { k: 2 }), ["a", "a-twin"])
    assert.deepEqual(await ids(h(), scope, { k: 2, diversity: 0.1 }), ["a", "other"])
    assert.deepEqual(await ids(h(), scope, { k: 2, diversity: 1 }), ["a", "a-twin"])
    await rejects(search(h(), scope, { k: 201, diversity: 0.5 }), "LIMIT_EXCEEDED")
  })
}

/** Points on a circle, so that neighbours are known. */
function circle(count: number) {
  return Array.from({ length: count }, (_, i) => {
    const angle = (2 * Math.PI * i) / count
    return record(`p${String(i).padStart(3, "0")}`, [Math.cos(angle), Math.sin(angle)], { metadata: { i } })
  })
}

function indexTests(h: () => MemoryHarness, check: Check): void {
  const kinds = [
    { kind: "AUTO" },
    { kind: "HNSW", m: 8, efConstruction: 32 },
    { kind: "IVF_FLAT", lists: 4 },
  ] as const
  for (const index of kinds) {
    for (const metric of ["COSINE", "L2", "INNER_PRODUCT"] as const) {
      check(
        `${index.kind} with ${metric}: an index changes no filtered answer, and new writes are seen`,
        async () => {
          const { scope } = await freshCollection(h(), {
            index,
            metric,
            quantization: metric === "L2" ? "HALF" : "NONE",
          })
          await put(h(), scope, ...circle(300))
          const rare = { filter: filter("metadata.i = 7 OR metadata.i = 150 OR metadata.i = 151"), k: 5 }
          const before = await ids(h(), scope, rare)
          const progress = await collect(optimizeCollection(h().store, scope, "c", false))
          assert.deepEqual(
            [progress[0]?.phase, progress.at(-1)?.phase, progress.at(-1)?.state],
            ["ANALYZE", "DONE", "READY"],
          )
          const steps = progress.filter(({ phase }) => phase === "INDEX")
          assert.deepEqual([steps[0]?.total, steps.at(-1)?.total, steps.at(-1)?.done], [300, 300, 300])
          assert.equal((await h().store.getCollection(scope, "c")).indexState, "READY")
          assert.deepEqual(await ids(h(), scope, rare), before)
          assert.equal(before.length, 3)
          await put(h(), scope, record("new", [1.001, 0]), record("p000", [0, 1]))
          assert.equal((await ids(h(), scope, { k: 3 }))[0], "new")
          await h().store.delete(scope, "c", { ids: ["new"] })
          assert.equal((await ids(h(), scope, { k: 250 })).length, 250, "as many as asked for")
          const rebuilt = await collect(optimizeCollection(h().store, scope, "c", true))
          assert.equal(rebuilt.at(-1)?.state, "READY")
          assert.deepEqual(await ids(h(), scope, { ...rare, exact: true }), before)
        },
      )
    }
  }

  check("FLAT never has an index, and the background gives one to those that are due", async () => {
    const flat = await freshCollection(h(), { index: { kind: "FLAT" } })
    const graph = await freshCollection(h(), { index: { kind: "HNSW", m: 8, efConstruction: 32 } })
    const small = await freshCollection(h())
    for (const { scope } of [flat, graph, small]) await put(h(), scope, ...circle(100))
    const options = { budgetMs: 60_000, signal: AbortSignal.timeout(60_000) }
    assert.ok((await maintainIndexes(h().store, options)) > 0)
    const state = async ({ scope }: typeof flat) => (await h().store.getCollection(scope, "c")).indexState
    assert.deepEqual([await state(flat), await state(graph), await state(small)], ["EXACT", "READY", "EXACT"])
    assert.equal(await maintainIndexes(h().store, options), 0)
    const done = await collect(optimizeCollection(h().store, flat.scope, "c", true))
    assert.equal(done.at(-1)?.state, "EXACT")
    await h().store.deleteCollection(graph.scope, "c", undefined)
  })
}

const HEAVY = "x".repeat(250 * 1024)

/** A store that counts the bytes of text which leave it. */
function measured(h: MemoryHarness): { readonly harness: MemoryHarness; texts(): number } {
  let bytes = 0
  const harness = {
    ...h,
    store: {
      ...h.store,
      get: async (...call: Parameters<MemoryStore["get"]>) => {
        const records = await h.store.get(...call)
        for (const { text } of records) bytes += text?.length ?? 0
        return records
      },
      search: async (...call: Parameters<MemoryStore["search"]>) => {
        const answers = await h.store.search(...call)
        for (const { dense, keyword } of answers) {
          for (const { record } of [...dense, ...keyword]) bytes += record.text?.length ?? 0
        }
        return answers
      },
    },
  }
  return { harness, texts: () => bytes }
}

function sizeTests(h: () => MemoryHarness, check: Check): void {
  const heavy = async (count: number) => {
    const made = await freshCollection(h())
    for (let i = 0; i < count; i += 10) {
      const some = Array.from({ length: 10 }, (_, n) => record(`r${i + n}`, [1, i + n], { text: HEAVY }))
      await put(h(), made.scope, ...some)
    }
    return made
  }

  check("refuses an answer that would be too large before it reads the records", async () => {
    const { scope } = await heavy(60)
    const { harness, texts } = measured(h())
    const one = await rejects(search(harness, scope, { k: 60 }), "LIMIT_EXCEEDED")
    assert.equal(one.violations[0]?.field, "query.k")
    assert.match(one.message, /RECORD_VIEW_ID/)
    const fused = search(harness, scope, { k: 60, mode: "HYBRID", keywords: "word" })
    await rejects(fused, "LIMIT_EXCEEDED")
    assert.equal(texts(), 0)
    const queries = Array.from({ length: 64 }, () => query({ k: 60 }))
    const many = await rejects(searchRecords(depsOf(harness), scope, "c", queries, String), "LIMIT_EXCEEDED")
    assert.equal(many.violations[0]?.field, "queries")
    assert.equal(texts(), 0)
    const few = Array.from({ length: 64 }, () => query({ k: 10 }))
    await rejects(searchRecords(depsOf(harness), scope, "c", few, String), "LIMIT_EXCEEDED")
    assert.ok(texts() < 8 * 1024 * 1024, `${texts()}`)
    assert.equal((await search(h(), scope, { k: 60, parts: ID_ONLY })).length, 60)
    assert.equal((await search(h(), scope, { k: 11 }))[10]?.record.text, HEAVY)
  })

  check("ranks a long query by its rarest words, and finds what has the others too", async () => {
    const { scope } = await freshCollection(h())
    const words = Array.from({ length: 20 }, (_, i) => `w${i}`)
    // A word w<i> is in i + 1 records.
    await put(h(), scope, ...words.map((word, i) => record(word, [1, 0], { text: words.slice(i).join(" ") })))
    const find = (count: number) =>
      search(h(), scope, { k: 50, mode: "KEYWORD", keywords: words.slice(0, count).join(" ") })
    const long = await find(20)
    assert.deepEqual(
      long.slice(16).map((hit) => [hit.record.id, hit.score]),
      [16, 17, 18, 19].map((i) => [`w${i}`, 0]),
    )
    assert.ok(long.slice(0, 16).every((hit) => hit.score > 0))
    const rounded = (hits: typeof long) => hits.map((hit) => [hit.record.id, hit.score.toFixed(9)])
    assert.deepEqual(rounded(await find(16)), rounded(long.slice(0, 16)))
  })

  check("counts a record in the answer as often as it comes, and reads it once", async () => {
    const { scope } = await freshCollection(h())
    const text = "x".repeat(1024)
    const all = Array.from({ length: 40 }, (_, i) => record(`r${i}`, [1, i], { text, metadata: { i } }))
    await put(h(), scope, ...all)
    const { harness, texts } = measured(h())
    const queries = [
      query({ k: 40 }),
      query({ k: 40, mode: "HYBRID", keywords: "nothing" }),
      query({ k: 40, parts: { ...ID_ONLY, metadata: true } }),
      query({ k: 3, diversity: 0.5, parts: ALL_PARTS }),
    ]
    const results = await searchRecords(depsOf(harness), scope, "c", queries, String)
    assert.deepEqual(
      results.map((hits) => [hits.length, hits[0]?.record.text, typeof hits[0]?.record.metadata]),
      [
        [40, text, "object"],
        [40, text, "object"],
        [40, undefined, "object"],
        [3, text, "object"],
      ],
    )
    assert.equal(texts(), 40 * 1024)
    assert.equal(results[3]?.[0]?.record.vector?.length, 2)
  })

  check("stops between two queries of a batch once its scope has ended", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, record("a", [1, 0]))
    const controller = new AbortController()
    let searches = 0
    const harness = {
      ...h(),
      store: {
        ...h().store,
        search: (...call: Parameters<MemoryStore["search"]>) => {
          searches += call[2].length
          if (searches >= 3) controller.abort()
          return h().store.search(scope, call[1], call[2])
        },
      },
    }
    const ending = { ...scope, signal: controller.signal }
    const queries = Array.from({ length: 64 }, () => query({}))
    await rejects(searchRecords(depsOf(harness), ending, "c", queries, String), "CANCELLED")
    // A store in the daemon gets them one by one, another one many at once, but never all.
    assert.ok(searches < queries.length, `${searches}`)
    assert.equal((await ids(h(), scope, {})).length, 1)
  })
}
