/** What the in-process engine counts and whom it evicts. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import type { Operation } from "../../src/domain/cache/operations.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { InProcessCacheStore } from "../../src/stores/inprocess/cache-store.ts"
import { Core } from "../../src/stores/inprocess/core.ts"
import { Journal } from "../../src/stores/inprocess/journal.ts"
import { runOperation } from "../../src/stores/inprocess/run-operation.ts"
import { fails, op, put, read, scopeOf, space, text } from "../contract/cache-support.ts"
import { ManualClock } from "../support/manual-clock.ts"

const KIB = 1_024
const LIMITS = { maxBytes: 64 * KIB, maxBytesPerTenant: 48 * KIB, maxKeyBytes: 16 * KIB }

function engine() {
  const clock = new ManualClock()
  return new InProcessCacheStore({ clock, limits: LIMITS, scripts: undefined })
}

const tenant = (name: string) => scopeOf(name as TenantId)

describe("in-process capacity", () => {
  it("takes from the tenant that has most, so that none loses its equal share to another", async () => {
    const store = engine()
    const [small, greedy] = [tenant("small"), tenant("greedy")]
    const mine = Array.from({ length: 10 }, (_, index) => `k${index}`)
    for (const key of mine) await put(store, small, key, "x".repeat(KIB))
    for (let index = 0; index < 500; index++) await put(store, greedy, `k${index}`, "x".repeat(KIB))
    for (const key of mine) assert.notEqual(await read(store, small, key), undefined, key)
    assert.equal(await read(store, greedy, "k0"), undefined)
    assert.notEqual(await read(store, greedy, "k499"), undefined)
  })

  it("evicts a tenant's least recently used key across its namespaces", async () => {
    const store = engine()
    const scope = tenant("t")
    await put(store, scope, "old", "x".repeat(10 * KIB))
    await put(store, scope, "used", "x".repeat(10 * KIB), space("short"))
    await put(store, scope, "newer", "x".repeat(10 * KIB), space("sliding"))
    assert.notEqual(await read(store, scope, "old"), undefined)
    await put(store, scope, "a", "x".repeat(10 * KIB))
    await put(store, scope, "b", "x".repeat(10 * KIB))
    assert.equal(await read(store, scope, "used", space("short")), undefined)
    assert.notEqual(await read(store, scope, "old"), undefined)
    assert.notEqual(await read(store, scope, "newer", space("sliding")), undefined)
  })

  it("refuses a key that is too large, and leaves what was there", async () => {
    const store = engine()
    const scope = tenant("t")
    await put(store, scope, "k", "v")
    const error = await fails("LIMIT_EXCEEDED", () => put(store, scope, "k", "x".repeat(16 * KIB)))
    assert.equal(error.metadata.maximum, String(16 * KIB))
    assert.equal(await read(store, scope, "k"), "v")
    const members = Array.from({ length: 200 }, (_, index) => ({ member: `member-${index}`, score: index }))
    await fails("LIMIT_EXCEEDED", () => store.write(scope, op({ kind: "sortedSetAdd", key: "z", members })))
    assert.equal((await store.read(scope, op({ kind: "sortedSetRange", key: "z" }))).found, false)
  })

  it("counts the same bytes for the engine, its tenants, namespaces and keys after any history", () => {
    const word = fc.constantFrom("a", "bb", "ccc")
    const operation: fc.Arbitrary<Operation> = fc.oneof(
      fc
        .record({ key: word, word })
        .map(({ key, word }) => op({ kind: "set", key, ...text(word), tags: ["t"] })),
      word.map((key) => op({ kind: "delete", key })),
      fc
        .record({ key: word, atMs: fc.constantFrom(0, 9_999) })
        .map(({ key, atMs }) => op({ kind: "expire", key, expiration: { atMs } })),
      fc
        .record({ key: word, name: word, word })
        .map(({ key, name, word }) => op({ kind: "hashSet", key, fields: [{ name, value: text(word) }] })),
      fc
        .record({ key: word, name: word })
        .map(({ key, name }) => op({ kind: "hashDelete", key, names: [name] })),
      fc
        .record({ key: word, word })
        .map(({ key, word }) =>
          op({ kind: "listPush", key, values: [text(word), text(word)], maximumLength: 3 }),
        ),
      word.map((key) => op({ kind: "listPop", key })),
      fc
        .record({ key: word, member: word })
        .map(({ key, member }) => op({ kind: "sortedSetIncrement", key, member, delta: 1 })),
      fc
        .record({ key: word, member: word })
        .map(({ key, member }) => op({ kind: "sortedSetRemove", key, members: [member] })),
    )
    const step = fc.record({
      tenant: fc.constantFrom("x", "y"),
      operations: fc.array(operation, { maxLength: 5 }),
      undo: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 40 }), (steps) => {
        const core = new Core({ ...LIMITS, maxBytes: 3 * KIB })
        for (const { tenant, operations, undo } of steps) {
          const to = core.space(tenant as TenantId, space())
          const before = undo ? core.bytes : undefined
          core.journal = undo ? new Journal() : undefined
          for (const each of operations) ignoringRefusals(() => runOperation(to, each, 1_000))
          const { journal } = core
          core.journal = undefined
          journal?.rollBack()
          if (before !== undefined) assert.equal(core.bytes, before)
          core.settle(to)
          assert.ok(core.bytes <= 3 * KIB)
          checkSums(core)
        }
      }),
      { numRuns: 300 },
    )
  })
})

function ignoringRefusals(work: () => unknown): void {
  try {
    work()
  } catch (error) {
    if (!(error instanceof DomainError)) throw error
  }
}

function checkSums(core: Core): void {
  let total = 0
  for (const tenant of core.tenants.values()) {
    let ofTenant = 0
    for (const each of tenant.spaces.values()) {
      let ofSpace = 0
      let linked = 0
      for (const entry of each.entries.values()) ofSpace += entry.bytes
      for (let entry = each.oldest; entry !== undefined; entry = entry.newer) linked++
      assert.equal(linked, each.entries.size)
      assert.equal(each.bytes, ofSpace)
      ofTenant += ofSpace
    }
    assert.equal(tenant.bytes, ofTenant)
    total += ofTenant
  }
  assert.equal(core.bytes, total)
}
