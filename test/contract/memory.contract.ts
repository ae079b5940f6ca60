/** What every engine of the Memory plane must do: collections and records. memory-search.contract.ts has searches. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { importRecords } from "../../src/domain/memory/import-records.ts"
import { ALL_PARTS, ID_ONLY, type RecordReceipt } from "../../src/domain/memory/model.ts"
import { exportRecords, getRecords, listRecords } from "../../src/domain/memory/read-records.ts"
import { upsertRecords } from "../../src/domain/memory/upsert-records.ts"
import {
  collect,
  depsOf,
  filter,
  freshCollection,
  type MemoryHarness,
  makeCollection,
  put,
  record,
  rejects,
  repeatable,
} from "./memory-support.ts"

const BY_ID = { filter: undefined, order: { by: "id", descending: false }, parts: ID_ONLY } as const

/** Registers the suite. `exceptions`: reasons by the names of tests that an engine cannot pass. */
export function memoryContract(
  make: () => Promise<MemoryHarness>,
  exceptions: Record<string, string> = {},
): void {
  let h: MemoryHarness
  const check = (name: string, work: () => Promise<void>): void => {
    it(name, { skip: exceptions[name] ?? false }, work)
  }
  describe("memory collections", () => {
    before(async () => {
      h = await make()
    })
    collectionTests(() => h, check)
  })
  describe("memory records", () => {
    writeTests(() => h, check)
    readTests(() => h, check)
    expiryTests(() => h, check)
    failureTests(() => h, check)
    check("refuses writes once it is closed", async () => {
      const { scope } = await freshCollection(h)
      await h.close()
      await rejects(put(h, scope, record("1", [1, 0])), "DRAINING")
    })
  })
}

type Check = (name: string, work: () => Promise<void>) => void

function collectionTests(h: () => MemoryHarness, check: Check): void {
  check("makes, reads, changes and deletes a collection", async () => {
    const { scope, collection } = await freshCollection(h(), { labels: { team: "a" }, defaultTtlMs: 60_000 })
    assert.deepEqual(await h().store.getCollection(scope, "c"), collection)
    const changed = await h().store.updateCollection(
      scope,
      "c",
      { description: "größer", defaultTtlMs: null },
      collection.revision,
    )
    assert.equal(changed.description, "größer")
    assert.deepEqual(changed.labels, { team: "a" })
    assert.equal(changed.defaultTtlMs, undefined)
    assert.notEqual(changed.revision, collection.revision)
    await rejects(h().store.updateCollection(scope, "c", {}, collection.revision), "REVISION_MISMATCH")
    await rejects(h().store.deleteCollection(scope, "c", collection.revision), "REVISION_MISMATCH")
    await put(h(), scope, record("1", [1, 0]), record("2", [1, 0]))
    assert.equal(await h().store.deleteCollection(scope, "c", changed.revision), 2)
    await rejects(h().store.getCollection(scope, "c"), "NOT_FOUND")
    await rejects(h().store.updateCollection(scope, "c", {}, undefined), "NOT_FOUND")
    await rejects(h().store.deleteCollection(scope, "c", undefined), "NOT_FOUND")
  })

  check("a collection made again under an old id is empty", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, record("1", [1, 0]))
    await h().store.deleteCollection(scope, "c", undefined)
    const again = await makeCollection(h(), scope)
    assert.equal(await h().store.count(scope, again, undefined), 0)
  })

  check("refuses a taken id, and takes ids apart by case", async () => {
    const { scope } = await freshCollection(h())
    await rejects(makeCollection(h(), scope), "ALREADY_EXISTS")
    await makeCollection(h(), scope, { id: "C" })
    const page = await h().store.listCollections(scope, { size: 10 }, undefined)
    assert.deepEqual(
      page.items.map((each) => each.id),
      ["C", "c"],
    )
  })

  check("lists page by page in byte order, with a filter", async () => {
    const { scope } = await freshCollection(h())
    for (const id of ["b", "B", "a.1", "a-1"]) await makeCollection(h(), scope, { id, labels: { kind: id } })
    const seen: string[] = []
    let cursor: readonly string[] | undefined
    do {
      const page = await h().store.listCollections(scope, { size: 2, cursor }, undefined)
      assert.ok(page.items.length <= 2)
      seen.push(...page.items.map((each) => each.id))
      cursor = page.next
    } while (cursor !== undefined)
    assert.deepEqual(seen, ["B", "a-1", "a.1", "b", "c"])
  })

  check("refuses what the engine cannot do and what contradicts itself", async () => {
    const scope = systemScope(h().freshTenant())
    await rejects(makeCollection(h(), scope, { quantization: "SCALAR" }), "UNSUPPORTED_BY_ENGINE")
    const hnsw = { kind: "HNSW", m: 16, efConstruction: 64 } as const
    await rejects(makeCollection(h(), scope, { dimension: 16_000, index: hnsw }), "UNSUPPORTED_BY_ENGINE")
    await rejects(makeCollection(h(), scope, { index: { ...hnsw, m: 40 } }), "INVALID_FIELD")
    await rejects(makeCollection(h(), scope, { dimension: 0 }), "INVALID_FIELD")
    await rejects(makeCollection(h(), scope, { embedder: "nobody" }), "INVALID_FIELD")
    await rejects(makeCollection(h(), scope, { embedder: "letters", dimension: 7 }), "INVALID_FIELD")
    await rejects(makeCollection(h(), scope, { id: "a/b" }), "INVALID_FIELD")
  })
}

function writeTests(h: () => MemoryHarness, check: Check): void {
  check("keeps a record as it was written, and replaces it as a whole", async () => {
    const { scope, collection } = await freshCollection(h())
    const metadata = { n: 1.5, deep: { list: [1, "zwei", null, true], "": {} }, ключ: "\u{1f600}" }
    const [first] = await put(
      h(),
      scope,
      record("Ä/ \u{1f600}", [0.1, -3e-7], { text: "  Text\n", metadata }),
    )
    const [stored] = await h().store.get(scope, collection, ["Ä/ \u{1f600}"], ALL_PARTS)
    assert.equal(first?.created, true)
    assert.equal(stored?.text, "  Text\n")
    assert.deepEqual(stored?.metadata, metadata)
    assert.deepEqual(stored?.vector, Float32Array.of(0.1, -3e-7))
    assert.equal(stored?.revision, first?.revision)
    const [second] = await put(h(), scope, record("Ä/ \u{1f600}", [1, 1]))
    const [replaced] = await h().store.get(scope, collection, ["Ä/ \u{1f600}"], ALL_PARTS)
    assert.equal(second?.created, false)
    assert.notEqual(second?.revision, first?.revision)
    assert.deepEqual([replaced?.text, replaced?.metadata], ["", {}])
    assert.equal(replaced?.createTimeMs, stored?.createTimeMs)
  })

  check("gives ids in order of time where none is given", async () => {
    const { scope, collection } = await freshCollection(h())
    const receipts = await put(h(), scope, record("", [1, 0]), record("", [0, 1]))
    assert.equal(new Set(receipts.map((each) => each.id)).size, 2)
    assert.equal(await h().store.count(scope, collection, undefined), 2)
  })

  check("embeds text with the collection's embedder", async () => {
    const { scope, collection } = await freshCollection(h(), { embedder: "letters", dimension: 0 })
    assert.equal(collection.dimension, 3)
    await put(h(), scope, record("1", undefined, { text: "aab" }), record("2", [1, 2, 3], { text: "b" }))
    const records = await h().store.get(scope, collection, ["1", "2"], ALL_PARTS)
    assert.deepEqual(
      records.map((each) => each.vector),
      [Float32Array.of(2, 1, 0.1), Float32Array.of(1, 2, 3)],
    )
    await rejects(put(h(), scope, record("3")), "INVALID_FIELD")
  })

  check("names the record and the field at fault and writes nothing", async () => {
    const { scope, collection } = await freshCollection(h())
    const bad: readonly (readonly number[])[] = [
      [1],
      [1, 2, 3],
      [1, Number.NaN],
      [1, Infinity],
      [0, 0],
      [1e20, 1e20],
    ]
    for (const vector of bad) {
      const error = await rejects(
        put(h(), scope, record("good", [1, 0]), record("evil", vector)),
        "INVALID_FIELD",
      )
      assert.equal(error.violations[0]?.field, "records[1].vector")
      assert.match(error.message, /"evil"/)
    }
    const faults = [
      record("x"),
      record("nul\0", [1, 0]),
      record("x", [1, 0], { text: "\0" }),
      record("x", [1, 0], { metadata: { a: ["\0"] } }),
      record("x", [1, 0], { metadata: { a: "x".repeat(70_000) } }),
    ]
    for (const fault of faults) await rejects(put(h(), scope, record("good", [1, 0]), fault), "INVALID_FIELD")
    await rejects(put(h(), scope, record("same", [1, 0]), record("same", [1, 0])), "INVALID_FIELD")
    assert.equal(await h().store.count(scope, collection, undefined), 0)
  })

  check("writes under an expectation or not at all", async () => {
    const { scope, collection } = await freshCollection(h())
    const [made] = await put(h(), scope, record("1", [1, 0], { ifRevisionMatch: 0n }))
    assert.equal(made?.created, true)
    const error = await rejects(
      put(h(), scope, record("1", [1, 0], { ifRevisionMatch: 0n })),
      "REVISION_MISMATCH",
    )
    assert.equal(error.metadata.actual, String(made?.revision))
    const half = [record("2", [1, 0], { ifRevisionMatch: 0n }), record("1", [1, 0], { ifRevisionMatch: 7n })]
    await rejects(put(h(), scope, ...half), "REVISION_MISMATCH")
    assert.deepEqual(await h().store.get(scope, collection, ["2"], ID_ONLY), [])
    const [changed] = await put(h(), scope, record("1", [0, 1], { ifRevisionMatch: made?.revision }))
    assert.equal(changed?.created, false)
    await rejects(put(h(), scope, record("3", [1, 0], { ifRevisionMatch: 7n })), "REVISION_MISMATCH")
  })

  check("lets one of two writers of a revision win", async () => {
    const { scope } = await freshCollection(h())
    const [made] = await put(h(), scope, record("1", [1, 0]))
    const writes = [1, 2, 3].map((n) =>
      put(h(), scope, record("1", [n, 1], { ifRevisionMatch: made?.revision })),
    )
    const outcomes = await Promise.allSettled(writes)
    assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1)
  })

  check("keeps concurrent writes apart and in order", async () => {
    const { scope, collection } = await freshCollection(h())
    const writes = Array.from({ length: 60 }, (_, i) => put(h(), scope, record(`r${i % 20}`, [i, 1])))
    const receipts = (await Promise.all(writes)).flat()
    assert.equal(new Set(receipts.map((each) => each.revision)).size, 60)
    assert.equal(receipts.filter((each) => each.created).length, 20)
    // Calls that are under way together come in any order; the last revision is the one that stays.
    const last = (n: number) =>
      [n, n + 20, n + 40].reduce((a, b) => (revisionOf(receipts, a) > revisionOf(receipts, b) ? a : b))
    const stored = await h().store.get(scope, collection, ["r0", "r19"], ALL_PARTS)
    assert.deepEqual(
      stored.map((each) => [each.vector?.[0], each.revision]),
      [last(0), last(19)].map((n) => [n, revisionOf(receipts, n)]),
    )
  })

  check("answers a repeated request with its first answer, and refuses its id for another", async () => {
    const { scope, collection } = await freshCollection(h())
    const once = repeatable(scope, "r1", "a")
    const first = await put(h(), once, record("", [1, 0]))
    assert.deepEqual(await put(h(), once, record("", [1, 0])), first)
    assert.equal(await h().store.count(scope, collection, undefined), 1)
    await rejects(put(h(), repeatable(scope, "r1", "b"), record("", [1, 0])), "REQUEST_ID_REUSED")
    const wipe = repeatable(scope, "r2")
    assert.equal(await h().store.delete(wipe, "c", { ids: first.map((each) => each.id) }), 1)
    assert.equal(await h().store.delete(wipe, "c", { ids: first.map((each) => each.id) }), 1)
    const end = repeatable(scope, "r3")
    assert.equal(await h().store.deleteCollection(end, "c", undefined), 0)
    assert.equal(await h().store.deleteCollection(end, "c", undefined), 0)
    assert.deepEqual(await put(h(), once, record("", [1, 0])), first, "although the collection is gone")
  })

  check("deletes by id and by filter, and counts what there was", async () => {
    const { scope, collection } = await freshCollection(h())
    const records = Array.from({ length: 10 }, (_, n) => record(`r${n}`, [1, 0], { metadata: { n } }))
    await put(h(), scope, ...records)
    assert.equal(await h().store.delete(scope, "c", { ids: ["r0", "R0", "nobody"] }), 1)
    assert.equal(await h().store.delete(scope, "c", { filter: filter("metadata.n >= 5") }), 5)
    assert.equal(await h().store.delete(scope, "c", { filter: filter("metadata.n >= 5") }), 0)
    assert.equal(await h().store.count(scope, collection, undefined), 4)
    await rejects(h().store.delete(scope, "nobody", { ids: ["r1"] }), "NOT_FOUND")
  })

  check("imports chunk by chunk and reports chunks that are at fault", async () => {
    const { scope, collection } = await freshCollection(h())
    async function* chunks() {
      for (const records of [
        [record("1", [1, 0]), record("2", [1, 0])],
        [record("3", [1, 0]), record("bad", [1])],
        [record("1", [0, 1]), record("4", [0, 1])],
      ]) {
        yield { size: records.length, ids: records.map((each) => each.id), drafts: () => records }
      }
    }
    const summary = await importRecords(depsOf(h()), scope, "c", chunks())
    assert.deepEqual(
      { ...summary, failures: summary.failures.map(({ message: _, ...rest }) => rest) },
      {
        written: 4,
        created: 3,
        refused: 2,
        chunks: 3,
        failures: [{ chunk: 1, field: "records[1].vector", recordId: "bad", reason: "INVALID_FIELD" }],
      },
    )
    assert.equal(await h().store.count(scope, collection, undefined), 3)
  })
}

function readTests(h: () => MemoryHarness, check: Check): void {
  check("reads by id in the order asked for and skips what is not there", async () => {
    const { scope } = await freshCollection(h())
    await put(h(), scope, record("a", [1, 0]), record("A", [1, 0]), record("b", [1, 0]))
    const records = await getRecords(h().store, scope, "c", ["b", "nobody", "A"], ID_ONLY)
    assert.deepEqual(
      records.map((each) => [each.id, each.text, each.metadata, each.vector]),
      [
        ["b", undefined, undefined, undefined],
        ["A", undefined, undefined, undefined],
      ],
    )
  })

  check("lists in every order, page by page, while records come and go", async () => {
    const { scope, collection } = await freshCollection(h())
    for (let i = 0; i < 6; i++) {
      h().clock.nowMs += 1000
      await put(h(), scope, record(`r${i}`, [1, 0]), record(`r${i}-twin`, [1, 0]))
    }
    for (const by of ["id", "create_time", "update_time"] as const) {
      for (const descending of [false, true]) {
        const query = { filter: undefined, order: { by, descending }, parts: ID_ONLY }
        const seen: string[] = []
        let cursor: readonly string[] | undefined
        do {
          const page = await h().store.list(scope, collection, { ...query, page: { size: 5, cursor } })
          seen.push(...page.items.map((each) => each.id))
          cursor = page.next
        } while (cursor !== undefined)
        const ids = Array.from({ length: 6 }, (_, i) => [`r${i}`, `r${i}-twin`]).flat()
        assert.deepEqual(seen, descending ? ids.toReversed() : ids, `${by} ${descending}`)
      }
    }
    const first = await h().store.list(scope, collection, { ...BY_ID, page: { size: 3 } })
    await h().store.delete(scope, "c", { ids: ["r1"] })
    await put(h(), scope, record("a-before", [1, 0]), record("r2-after", [1, 0]))
    const rest = await h().store.list(scope, collection, { ...BY_ID, page: { size: 3, cursor: first.next } })
    assert.deepEqual(
      rest.items.map((each) => each.id),
      ["r1-twin", "r2", "r2-after"],
    )
  })

  check("filters by every field", async () => {
    const { scope, collection } = await freshCollection(h())
    h().clock.nowMs += 1000
    const at = new Date(h().clock.nowMs).toISOString()
    const [one] = await put(
      h(),
      scope,
      record("one", [1, 0], { text: "The quick fox", metadata: { tags: ["x", "y"], n: 1, s: "5" } }),
      record("two", [1, 0], {
        metadata: { n: 5, nothing: null },
        expiration: { kind: "ttl", ttlMs: 60_000 },
      }),
    )
    const cases: readonly (readonly [string, readonly string[]])[] = [
      ["id = one", ["one"]],
      ['text:"quick"', ["one"]],
      ["metadata.n > 1", ["two"]],
      ["metadata.tags:y", ["one"]],
      ["metadata.s = 5", []],
      ["metadata.nothing = null", ["one", "two"]],
      ["NOT metadata.s:*", ["two"]],
      ["expire_time:*", ["two"]],
      [`create_time = "${at}" AND update_time <= "${at}"`, ["one", "two"]],
      [`revision = ${one?.revision}`, ["one"]],
      ["metadata.n = 1 OR metadata.n = 5 id != one", ["two"]],
    ]
    for (const [text, ids] of cases) {
      const query = { ...BY_ID, filter: filter(text), page: { size: 10 } }
      const page = await h().store.list(scope, collection, query)
      assert.deepEqual(
        page.items.map((each) => each.id),
        ids,
        text,
      )
      assert.equal(await h().store.count(scope, collection, filter(text)), ids.length, text)
    }
  })

  check("exports everything once, and goes on after a cursor", async () => {
    const { scope } = await freshCollection(h())
    const text = "x".repeat(200_000)
    for (let i = 0; i < 3; i++) {
      const records = Array.from({ length: 10 }, (_, n) => record(`r${i * 10 + n + 100}`, [1, n], { text }))
      await put(h(), scope, ...records)
    }
    const query = { filter: undefined, parts: ALL_PARTS }
    const chunks = await collect(exportRecords(h().store, scope, "c", query, undefined))
    assert.ok(chunks.length > 1, "heavy records are spread over messages")
    const ids = chunks.flatMap((chunk) => chunk.records.map((each) => each.id))
    assert.deepEqual(
      ids,
      Array.from({ length: 30 }, (_, n) => `r${n + 100}`),
    )
    const rest = await collect(exportRecords(h().store, scope, "c", query, chunks[0]?.cursor))
    assert.deepEqual(
      rest.flatMap((chunk) => chunk.records.map((each) => each.id)).concat(),
      ids.slice(chunks[0]?.records.length),
    )
    const page = await listRecords(h().store, scope, "c", { ...BY_ID, parts: ALL_PARTS }, { size: 30 })
    assert.ok(page.items.length < 30 && page.next !== undefined)
  })

  check("shows a tenant nothing of another", async () => {
    const { scope, collection } = await freshCollection(h())
    await put(h(), scope, record("1", [1, 0]))
    const other = systemScope(h().freshTenant())
    await rejects(h().store.getCollection(other, "c"), "NOT_FOUND")
    assert.deepEqual(await h().store.get(other, collection, ["1"], ALL_PARTS), [], "even with the handle")
    assert.equal(await h().store.count(other, collection, undefined), 0)
    await rejects(h().store.upsert(other, collection, []), "NOT_FOUND")
    await rejects(h().store.delete(other, "c", { ids: ["1"] }), "NOT_FOUND")
    const own = await makeCollection(h(), other)
    await put(h(), other, record("1", [0, 1]))
    assert.equal(await h().store.delete(other, "c", { filter: filter("revision > 0") }), 1)
    assert.equal(await h().store.count(other, own, undefined), 0)
    assert.equal(await h().store.count(scope, collection, undefined), 1)
    assert.equal((await h().store.listCollections(other, { size: 10 }, undefined)).items.length, 1)
  })
}

function expiryTests(h: () => MemoryHarness, check: Check): void {
  check("shows nothing whose expiry has passed, swept or not", async () => {
    const { scope, collection } = await freshCollection(h(), { defaultTtlMs: 5_000 })
    const now = h().clock.nowMs
    await put(
      h(),
      scope,
      record("gone", [1, 0], { expiration: { kind: "time", timeMs: now - 1 } }),
      record("short", [1, 0], { expiration: { kind: "ttl", ttlMs: 1_000 } }),
      record("default", [1, 0]),
    )
    const see = async () => {
      const all = { ...BY_ID, page: { size: 10 } }
      const listed = (await h().store.list(scope, collection, all)).items.map((each) => each.id)
      const got = await h().store.get(scope, collection, ["default", "gone", "short"], ID_ONLY)
      assert.deepEqual(
        got.map((each) => each.id),
        listed,
      )
      assert.equal(await h().store.count(scope, collection, undefined), listed.length)
      return listed
    }
    assert.deepEqual(await see(), ["default", "short"])
    h().clock.nowMs = now + 1_000
    assert.deepEqual(await see(), ["default"])
    const [again] = await put(h(), scope, record("short", [0, 1], { ifRevisionMatch: 0n }))
    assert.equal(again?.created, true)
    const [stored] = await h().store.get(scope, collection, ["short"], ID_ONLY)
    assert.equal(stored?.createTimeMs, now + 1_000)
    const [renewed] = await put(h(), scope, record("gone", [0, 1]))
    assert.equal(renewed?.created, true)
    h().clock.nowMs = now + 60_000
    assert.deepEqual(await see(), [])
    assert.equal(await h().store.delete(scope, "c", { ids: ["default"] }), 0)
    assert.equal(await h().store.sweep(scope, 2), 2)
    assert.equal(await h().store.sweep(scope, 10), 1)
    assert.equal(await h().store.sweep(scope, 10), 0)
  })
}

function failureTests(h: () => MemoryHarness, check: Check): void {
  check("refuses a call whose deadline has passed or that was cancelled, without effect", async () => {
    const { scope, collection } = await freshCollection(h())
    const late = { ...scope, deadlineMs: Date.now() - 1 }
    await rejects(h().store.getCollection(late, "c"), "DEADLINE_EXCEEDED")
    await rejects(upsertRecords(depsOf(h()), late, "c", [record("1", [1, 0])]), "DEADLINE_EXCEEDED")
    const cancelled = { ...scope, signal: AbortSignal.abort() }
    await rejects(h().store.count(cancelled, collection, undefined), "CANCELLED")
    await rejects(h().store.delete(cancelled, "c", { ids: ["1"] }), "CANCELLED")
    assert.equal(await h().store.count(scope, collection, undefined), 0)
  })

  check("refuses a write to a collection that is gone", async () => {
    const { scope, collection } = await freshCollection(h())
    await h().store.deleteCollection(scope, "c", undefined)
    const write = { ...record("1", [1, 0]), vector: Float32Array.of(1, 0), expireTimeMs: undefined }
    await rejects(h().store.upsert(scope, collection, [write]), "NOT_FOUND")
    await rejects(h().store.upsert(scope, collection, [{ ...write, ifRevisionMatch: 0n }]), "NOT_FOUND")
  })
}

function revisionOf(receipts: readonly RecordReceipt[], index: number): bigint {
  return receipts[index]?.revision ?? 0n
}
