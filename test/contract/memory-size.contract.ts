/** What every engine of the Memory plane must do: answers that fit into a message. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { structBytes } from "../../src/domain/kernel/json-size.ts"
import { ANSWER_BYTES, recordBytes } from "../../src/domain/memory/answer-size.ts"
import { ALL_PARTS, ID_ONLY } from "../../src/domain/memory/model.ts"
import { exportRecords, getRecords, listRecords } from "../../src/domain/memory/read-records.ts"
import { collect, freshCollection, type MemoryHarness, put, record, rejects } from "./memory-support.ts"

/** Metadata of 60 KB as JSON, and nearly twice as much in an answer. */
const WIDE = { list: Array.from({ length: 4_000 }, (_, i) => [true, i % 10, null]) }

/** Registers the suite. */
export function memorySizeContract(make: () => Promise<MemoryHarness>): void {
  describe("memory answers", () => {
    let h: MemoryHarness
    before(async () => {
      h = await make()
    })
    after(() => h.close())

    it("refuses to get more than fits, without reading it", async () => {
      const { scope } = await freshCollection(h)
      const ids = Array.from({ length: 40 }, (_, i) => `r${i}`)
      for (let i = 0; i < 40; i += 10) {
        const some = ids.slice(i, i + 10).map((id) => record(id, [1, 0], { text: "x".repeat(250 * 1024) }))
        await put(h, scope, ...some)
      }
      let reads = 0
      const store: MemoryHarness["store"] = {
        ...h.store,
        get: (...call) => {
          reads++
          return h.store.get(...call)
        },
      }
      const refused = await rejects(getRecords(store, scope, "c", ids, ALL_PARTS), "LIMIT_EXCEEDED")
      assert.equal(refused.violations[0]?.field, "ids")
      assert.match(refused.message, /fewer/)
      assert.equal(reads, 0)
      const doubled = Array.from({ length: 40 }, () => "r0")
      await rejects(getRecords(store, scope, "c", doubled, ALL_PARTS), "LIMIT_EXCEEDED")
      const order = ["r3", "r1", "none", "r3"]
      const found = await getRecords(store, scope, "c", order, ALL_PARTS)
      assert.deepEqual(
        found.map(({ id }) => id),
        ["r3", "r1", "r3"],
      )
      assert.equal((await getRecords(store, scope, "c", ids, ID_ONLY)).length, 40)
    })

    it("weighs text in bytes and metadata as it is in the answer", async () => {
      const { scope } = await freshCollection(h)
      const ids = Array.from({ length: 40 }, (_, i) => `r${i + 10}`)
      const records = ids.map((id) => record(id, [1, 0], { metadata: WIDE, text: "\u4e16".repeat(10_000) }))
      await put(h, scope, ...records)
      await rejects(getRecords(h.store, scope, "c", ids, ALL_PARTS), "LIMIT_EXCEEDED")
      const chunks = await collect(
        exportRecords(h.store, scope, "c", { filter: undefined, parts: ALL_PARTS }, undefined),
      )
      for (const chunk of chunks) {
        const bytes = chunk.records.reduce((sum, each) => sum + recordBytes(each), 0)
        assert.ok(bytes <= ANSWER_BYTES, `${bytes}`)
      }
      assert.deepEqual(
        chunks.flatMap((chunk) => chunk.records.map(({ id }) => id)),
        ids,
      )
      const query = { filter: undefined, order: { by: "id", descending: true }, parts: ALL_PARTS } as const
      const page = await listRecords(h.store, scope, "c", query, { size: 1000 })
      assert.ok(page.items.length > 10 && page.items.length < 30, `${page.items.length}`)
      assert.equal(page.items[0]?.id, "r49")
      assert.notEqual(page.next, undefined)
    })

    it("refuses metadata that would be too large in an answer", async () => {
      const { scope } = await freshCollection(h)
      // 65000 bytes as JSON, but nine bytes and a length for each of 32500 digits in an answer.
      const digits = { list: Array.from({ length: 32_500 }, () => 1) }
      const refused = await rejects(put(h, scope, record("r", [1, 0], { metadata: digits })), "INVALID_FIELD")
      assert.equal(refused.violations[0]?.field, "records[0].metadata")
      assert.ok(structBytes(digits) > 262_144)
      assert.ok(structBytes(WIDE) <= 262_144)
    })
  })
}
