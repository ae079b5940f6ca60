/** The end of a tenant on Milvus, with partitions of collections and with collections of their own. */
import assert from "node:assert/strict"
import { describe } from "node:test"
import { type CallScope, scopeWith } from "../../src/domain/kernel/scope.ts"
import type { Collection } from "../../src/domain/memory/model.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"

const CALL_MS = 120_000
const place = { ref: "1", dimension: 2, metric: "COSINE", index: { kind: "FLAT" } } as const
const collection = { ...place, id: "c" } as unknown as Collection
const rows = ["a", "b", "c"].map((id) => ({
  id,
  text: "",
  vector: Float32Array.of(1, 0),
  metadata: {},
  revision: 1n,
  createTimeMs: 0,
  updateTimeMs: 0,
  expireTimeMs: undefined,
}))

/** The server always needs a deadline. */
const timed = (scope: CallScope) => scopeWith(scope, { deadlineMs: Date.now() + CALL_MS })

for (const on of [milvusStandalone, milvusLite]) {
  for (const isolation of ["shared", "own"] as const) {
    describe(`${on.name}, ${isolation}`, { skip: on.skip, timeout: 600_000 }, () => {
      tenantEraserContract(async () => {
        const engine = await testMilvus(on, { isolation })
        const eraser = engine.eraser("vectors")
        return {
          eraser: {
            store: eraser.store,
            holds: (scope) => eraser.holds(timed(scope)),
            erase: (scope) => eraser.erase(timed(scope)),
          },
          freshTenant,
          fill: (scope) => engine.vectors.write(timed(scope), place, rows),
          check: async (scope) => {
            assert.equal(await engine.vectors.count(timed(scope), collection, undefined), rows.length)
          },
        }
      })
    })
  }
}
