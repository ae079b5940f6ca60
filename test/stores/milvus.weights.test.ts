/** Searches of Milvus that bring whole records where these are light, so that there is one wait. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ALL_PARTS, type Collection, ID_ONLY } from "../../src/domain/memory/model.ts"
import type { EngineQuery } from "../../src/domain/memory/ports.ts"
import type { VectorRecord } from "../../src/domain/memory/vector-store.ts"
import { Weights } from "../../src/stores/milvus/weights.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"

const place = { ref: "1", dimension: 2, metric: "COSINE", index: { kind: "FLAT" } } as const
const collection = { ...place, id: "c" } as unknown as Collection
const MANY = 40

function rowOf(i: number, text: string): VectorRecord {
  return {
    id: `r${i}`,
    text,
    vector: Float32Array.of(1, i / 100),
    metadata: { i },
    revision: BigInt(i + 1),
    createTimeMs: i,
    updateTimeMs: i,
    expireTimeMs: undefined,
  }
}

function queryOf(limit: number, whole: boolean): EngineQuery {
  return {
    filter: undefined,
    parts: whole ? ALL_PARTS : ID_ONLY,
    partsIfLight: whole ? undefined : ALL_PARTS,
    dense: { vector: Float32Array.of(1, 0), limit, exact: false, efSearch: 100 },
    keyword: undefined,
  }
}

describe("what records are known to weigh", () => {
  it("lets few be read at once, many where all are light, and too many never", () => {
    const weights = new Weights()
    assert.equal(weights.areLight("a", 16, 1e9), true)
    assert.equal(weights.areLight("a", 17, 0), false)
    weights.written("a", 10)
    assert.equal(weights.areLight("a", 17, 0), false, "what was written says nothing of what else there is")
    weights.seen("a", 1_000)
    assert.equal(weights.areLight("a", 320, 0), true)
    assert.equal(weights.areLight("a", 320, 8_000), false)
    assert.equal(weights.areLight("a", 513, 0), false)
    assert.equal(weights.areLight("b", 320, 0), false)
  })

  it("grows with each heavy record, and is forgotten little by little", () => {
    const weights = new Weights()
    weights.seen("a", 100)
    weights.written("a", 300_000)
    assert.equal(weights.heaviest("a"), 300_000)
    assert.equal(weights.areLight("a", 100, 0), false)
    for (let i = 0; i < 100; i++) weights.seen("a", 100)
    assert.equal(weights.areLight("a", 100, 0), true)
  })
})

for (const on of [milvusStandalone, milvusLite]) {
  describe(`searches of ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    it("bring whole records once it is known that they are light, and no longer when one is heavy", async () => {
      const { vectors } = await testMilvus(on)
      const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 120_000 }
      const rows = Array.from({ length: MANY }, (_, i) => rowOf(i, `text ${i}`))
      await vectors.write(scope, place, rows)
      const search = async (...queries: EngineQuery[]) => vectors.search(scope, collection, queries)
      const [first] = await search(queryOf(MANY, false))
      assert.equal(first?.complete, false)
      assert.deepEqual(
        first?.dense.map(({ record }) => record.id),
        rows.map(({ id }) => id),
      )
      assert.equal(first?.dense[0]?.record.text, undefined)
      const together = await search(queryOf(MANY, false), queryOf(MANY, false))
      for (const { complete, dense } of together) {
        assert.equal(complete, true)
        assert.deepEqual(
          dense.map(({ record }) => ({ ...record, vector: undefined })),
          rows.map((row) => ({ ...row, vector: undefined })),
        )
      }
      const [whole] = await search(queryOf(MANY, true))
      assert.deepEqual(whole?.dense, together[0]?.dense)
      await vectors.write(scope, place, [rowOf(0, "x".repeat(200_000))])
      assert.equal((await search(queryOf(MANY, false)))[0]?.complete, false)
      assert.equal((await search(queryOf(5, false)))[0]?.dense[0]?.record.text?.length, 200_000)
    })

    it("bring a text whole that goes beyond a field, though none was known of", async () => {
      const { vectors } = await testMilvus(on)
      const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 120_000 }
      const text = "äö".repeat(50_000)
      await vectors.write(scope, place, [rowOf(0, text), rowOf(1, "short")])
      for (let i = 0; i < 2; i++) {
        const [answer] = await vectors.search(scope, collection, [queryOf(2, true)])
        assert.deepEqual(
          answer?.dense.map(({ record }) => record.text),
          [text, "short"],
        )
      }
    })
  })
}
