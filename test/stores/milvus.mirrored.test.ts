/** Collections with copies in Milvus: what the copies are for, and what happens without them. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { parseTenantId, systemScope } from "../../src/domain/kernel/scope.ts"
import { MirrorDoubts } from "../../src/domain/memory/mirror-doubts.ts"
import { ID_ONLY } from "../../src/domain/memory/model.ts"
import { MirrorRounds, reconcileMirror } from "../../src/domain/memory/reconcile-mirror.ts"
import { searchRecords } from "../../src/domain/memory/search-records.ts"
import { openMilvus } from "../../src/stores/milvus/index.ts"
import { depsOf, filter, makeCollection, put, query, record, rejects } from "../contract/memory-support.ts"
import { freePort, milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { type MilvusHarness, milvusHarness } from "../engines/milvus-suites.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"

for (const on of [milvusStandalone, milvusLite]) {
  describe(`copies in ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    const open = async () => milvusHarness(await testMilvus(on), "MIRRORED")

    it("brings every change over, and removes what a deleted collection had", async () => {
      const h = await open()
      const { scope, collection } = await fresh(h)
      await put(h, scope, record("a", [1, 0], { metadata: { n: 1 } }), record("b", [0, 1]))
      await copied(h, scope)
      assert.deepEqual(await copies(h, scope), ["a", "b"])
      const [before] = await h.vectors.get(scope, collection, ["a"], ID_ONLY)
      await put(h, scope, record("a", [0, 1]))
      await h.store.delete(scope, "c", { ids: ["b"] })
      await copied(h, scope)
      assert.deepEqual(await copies(h, scope), ["a"])
      const [after] = await h.vectors.get(scope, collection, ["a"], ID_ONLY)
      assert.notEqual(after?.revision, before?.revision)
      await h.store.deleteCollection(scope, "c", undefined)
      await until(
        "the copies are gone",
        async () => (await h.vectors.count(scope, collection, undefined)) === 0,
      )
      await h.close()
    })

    it("finds what is not copied yet, and nothing that is gone", async () => {
      const h = await open()
      const { scope } = await fresh(h)
      const circle = Array.from({ length: 40 }, (_, i) =>
        record(`r${10 + i}`, [Math.cos(i / 10), Math.sin(i / 10)], { metadata: { even: i % 2 === 0 } }),
      )
      await put(h, scope, ...circle)
      await copied(h, scope)
      assert.deepEqual(await ids(h, scope, { k: 3 }), ["r10", "r11", "r12"])
      await h.pause()
      await put(h, scope, record("new", [1, 0]), record("r49", [1, 0.01]))
      await h.store.delete(scope, "c", { ids: ["r10", "r12"] })
      assert.deepEqual(await ids(h, scope, { k: 3 }), ["new", "r49", "r11"])
      const even = { k: 2, filter: filter("metadata.even = true") }
      assert.deepEqual(await ids(h, scope, even), ["r14", "r16"])
      assert.equal((await copies(h, scope)).length, 40, "nothing was brought over meanwhile")
      h.resume()
      await copied(h, scope)
      assert.deepEqual(await ids(h, scope, { k: 3 }), ["new", "r49", "r11"])
      await h.close()
    })

    it("puts a copy right that a late write has overwritten", async () => {
      const prefix = `t${randomUUID().replaceAll("-", "")}`
      const engine = await testMilvus(on, { prefix })
      const h = await milvusHarness(engine, "MIRRORED")
      const { scope, collection } = await fresh(h)
      await put(h, scope, record("a", [1, 0]))
      await copied(h, scope)
      const url = new URL(await on.url())
      const proxy = await TcpProxy.to(Number(url.port))
      url.port = String(proxy.port)
      const slow = openMilvus({ url: url.href, prefix })
      await slow.vectors.prepare(scope, collection)
      let now = 0
      const doubts = new MirrorDoubts(h.source, () => now)
      const [old] = await h.source.read(scope, collection.ref, ["a"])
      assert.ok(old?.vector !== undefined)
      const copy = { ...old, text: undefined, vector: old.vector, metadata: {} }
      proxy.hold()
      const soon = { ...scope, deadlineMs: Date.now() + 1_000 }
      const write = doubts.over(scope.tenant, collection, ["a"], () =>
        slow.vectors.write(soon, collection, [copy]),
      )
      await rejects(write, "OUTCOME_UNKNOWN")
      const refused = doubts.over(scope.tenant, collection, ["a"], () =>
        Promise.reject(new DomainError("STORE_UNAVAILABLE", "nothing was applied")),
      )
      await rejects(refused, "STORE_UNAVAILABLE")
      assert.equal(doubts.size, 1, "what was not applied is not in doubt")
      await put(h, scope, record("a", [0, 1]))
      await copied(h, scope)
      proxy.release()
      // Whether the server still took the write that was given up or not: this is what it would have done.
      await h.vectors.write(scope, collection, [copy])
      assert.equal(await doubts.resolve(scope), 0, "it is too early to know")
      now += 60_000
      assert.equal(await doubts.resolve(scope), 1)
      assert.equal(doubts.size, 0)
      await copied(h, scope)
      const [truth] = await h.source.read(scope, collection.ref, ["a"])
      const [again] = await h.vectors.get(scope, collection, ["a"], ID_ONLY)
      assert.equal(again?.revision, truth?.revision)
      await slow.close()
      await proxy.close()
      await h.close()
    })

    it("compares records with their copies and has the differences put right", async () => {
      const h = await open()
      const { scope, collection } = await fresh(h)
      await put(h, scope, ...["a", "b", "c", "d"].map((id) => record(id, [1, 0])))
      await copied(h, scope)
      const deps = { records: h.store, vectors: h.vectors, source: h.source }
      assert.deepEqual(await reconcileMirror(deps, scope, collection), { compared: 4, different: 0 })
      const [b] = await h.vectors.get(scope, collection, ["b"], ID_ONLY)
      const stray = {
        id: "stray",
        text: "",
        vector: Float32Array.of(1, 0),
        metadata: {},
        revision: 1n,
        createTimeMs: 0,
        updateTimeMs: 0,
        expireTimeMs: undefined,
      }
      await h.vectors.write(scope, collection, [stray, { ...stray, id: "c" }])
      await h.vectors.remove(scope, collection, ["b"])
      assert.deepEqual(await reconcileMirror(deps, scope, collection), { compared: 5, different: 3 })
      await copied(h, scope)
      assert.deepEqual(await copies(h, scope), ["a", "b", "c", "d"])
      const [again] = await h.vectors.get(scope, collection, ["b"], ID_ONLY)
      assert.equal(again?.revision, b?.revision)
      const rounds = new MirrorRounds(deps)
      const { signal } = new AbortController()
      assert.equal(await rounds.next(signal), 0)
      await h.vectors.remove(scope, collection, ["a", "b"])
      assert.equal(await rounds.next(signal), 0, "there is no other collection")
      assert.equal(await rounds.next(signal), 2)
      await h.close()
    })
  })
}

describe("without the vector store", { timeout: 300_000 }, () => {
  it("answers from the records, says so, and owes the copies", async () => {
    const engine = openMilvus({ url: `milvus://127.0.0.1:${await freePort()}` })
    const h = await milvusHarness(engine, "MIRRORED")
    const { scope, collection } = await fresh(h)
    await put(h, scope, record("a", [1, 0], { text: "word" }), record("b", [0, 1]))
    const degraded: string[] = []
    const notice = (_: number, store: string) => degraded.push(store)
    const [hits] = await searchRecords(depsOf(h), scope, "c", [query({ k: 1 })], String, notice)
    assert.deepEqual([hits?.[0]?.record.id, degraded], ["a", ["vectors"]])
    const keyword = query({ mode: "KEYWORD", target: { kind: "text", text: "word" } })
    await searchRecords(depsOf(h), scope, "c", [keyword], String, notice)
    assert.equal(degraded.length, 1, "words were never the vector store's")
    assert.deepEqual((await h.source.owed(scope, collection.ref, 10))?.toSorted(), ["a", "b"])
    assert.equal(await h.source.owed(scope, collection.ref, 1), undefined)
    await h.close()
    await engine.close()
  })
})

async function fresh(h: MilvusHarness) {
  const scope = { ...systemScope(h.freshTenant()), deadlineMs: Date.now() + 120_000 }
  assert.ok(parseTenantId(scope.tenant) !== undefined)
  return { scope, collection: await makeCollection(h, scope) }
}

async function copied(h: MilvusHarness, scope: CallScope): Promise<void> {
  const { ref } = await h.store.getCollection(scope, "c")
  await until("all is copied", async () => (await h.source.owed(scope, ref, 100))?.length === 0, 60_000)
}

async function copies(h: MilvusHarness, scope: CallScope): Promise<readonly string[]> {
  const collection = await h.store.getCollection(scope, "c")
  const order = { by: "id", descending: false } as const
  const page = await h.vectors.list(scope, collection, {
    filter: undefined,
    order,
    parts: ID_ONLY,
    page: { size: 100 },
  })
  return page.items.map(({ id }) => id)
}

async function ids(h: MilvusHarness, scope: CallScope, more: Parameters<typeof query>[0]) {
  const answers = await h.store.search(scope, await h.store.getCollection(scope, "c"), [
    {
      filter: more.filter,
      parts: ID_ONLY,
      dense: { vector: Float32Array.of(1, 0), limit: more.k ?? 10, exact: false, efSearch: 100 },
      keyword: undefined,
    },
  ])
  assert.equal(answers[0]?.degradedBy, undefined)
  return answers[0]?.dense.map((each) => each.record.id) ?? []
}
