/** Collections that live in Milvus alone: expectations, expiry, and requests that are repeated after a crash. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ALL_PARTS, ID_ONLY } from "../../src/domain/memory/model.ts"
import { makeCollection, put, record, rejects, repeatable } from "../contract/memory-support.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { type MilvusHarness, milvusHarness } from "../engines/milvus-suites.ts"

for (const on of [milvusStandalone, milvusLite]) {
  describe(`direct collections in ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    it("refuses expectations, and writes nothing of the request", async () => {
      const h = await milvusHarness(await testMilvus(on), "DIRECT")
      const { scope, collection } = await fresh(h)
      for (const ifRevisionMatch of [0n, 7n]) {
        const records = [record("a", [1, 0]), record("b", [1, 0], { ifRevisionMatch })]
        await rejects(put(h, scope, ...records), "UNSUPPORTED_BY_ENGINE")
      }
      assert.equal(await h.store.count(scope, collection, undefined), 0)
      await h.close()
    })

    it("shows nothing whose expiry has passed, swept or not, and takes what comes after it for new", async () => {
      const clock = {
        nowMs: Date.parse("2026-06-01T00:00:00Z"),
        now(): number {
          return this.nowMs
        },
      }
      const h = await milvusHarness(await testMilvus(on, { clock }), "DIRECT", clock)
      const { scope, collection } = await fresh(h)
      const soon = { expiration: { kind: "ttl", ttlMs: 1_000 } } as const
      await put(
        h,
        scope,
        record("soon", [1, 0], soon),
        record("again", [1, 0], soon),
        record("stays", [1, 0]),
      )
      assert.equal(await h.store.count(scope, collection, undefined), 3)
      clock.nowMs += 1_000
      assert.deepEqual((await h.store.get(scope, collection, ["soon", "stays"], ID_ONLY)).length, 1)
      const [receipt] = await put(h, scope, record("again", [0, 1]))
      assert.equal(receipt?.created, true)
      const [again] = await h.store.get(scope, collection, ["again"], ALL_PARTS)
      assert.deepEqual([again?.createTimeMs, again?.expireTimeMs], [clock.nowMs, undefined])
      assert.equal(await h.store.sweep(scope, 10), 1)
      assert.equal(await h.store.sweep(scope, 10), 0)
      assert.equal(await h.store.count(scope, collection, undefined), 2)
      await h.close()
    })

    it("goes on where a crash has broken a request off, and leaves alone what is newer", async () => {
      const engine = await testMilvus(on)
      let fault: "before" | "after" | undefined
      const write: typeof engine.vectors.write = async (...call) => {
        if (fault === "before") throw lost()
        await engine.vectors.write(...call)
        if (fault === "after") throw lost()
      }
      const vectors = new Proxy(engine.vectors, {
        get: (target, name) => {
          if (name === "write") return write
          const member: unknown = Reflect.get(target, name, target)
          return typeof member === "function" ? member.bind(target) : member
        },
      })
      const h = await milvusHarness({ ...engine, vectors }, "DIRECT")
      const { scope, collection } = await fresh(h)
      for (const when of ["before", "after"] as const) {
        const once = repeatable(scope, when)
        fault = when
        await rejects(put(h, once, record("", [1, 0]), record(when, [1, 0])), "OUTCOME_UNKNOWN")
        fault = undefined
        if (when === "after") await put(h, scope, record(when, [0, 1]))
        const receipts = await put(h, once, record("", [1, 0]), record(when, [1, 0]))
        assert.deepEqual(await put(h, once, record("", [1, 0]), record(when, [1, 0])), receipts)
        const ids = receipts.map(({ id }) => id)
        const stored = await h.store.get(scope, collection, ids, ALL_PARTS)
        assert.equal(stored.length, 2, "the generated id stays the first attempt's")
        assert.deepEqual(stored[1]?.vector, when === "after" ? Float32Array.of(0, 1) : Float32Array.of(1, 0))
        assert.equal(stored[0]?.revision, receipts[0]?.revision)
      }
      assert.equal(await h.store.count(scope, collection, undefined), 4)
      await rejects(put(h, repeatable(scope, "after", "other"), record("x", [1, 0])), "REQUEST_ID_REUSED")
      await h.close()
    })
  })
}

function lost(): DomainError {
  return new DomainError("OUTCOME_UNKNOWN", "the answer was lost")
}

async function fresh(h: MilvusHarness) {
  const scope = { ...systemScope(h.freshTenant()), deadlineMs: Date.now() + 120_000 }
  return { scope, collection: await makeCollection(h, scope) }
}
