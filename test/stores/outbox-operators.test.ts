/** The outboxes of several databases as one list. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { OutboxOperators } from "../../src/domain/outbox/operators.ts"
import type { OutboxStore } from "../../src/domain/outbox/ports.ts"
import { createOutboxSignals } from "../../src/domain/outbox/signals.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { idsOf, outboxEntry } from "../contract/outbox-support.ts"
import { embeddedDatabase, freshTenant } from "../engines/pglite.ts"
import { outboxHarness } from "./outbox-harness.ts"

const scope = systemScope()
const AWAY = new DomainError("STORE_UNAVAILABLE", "the store is away")
const TOPIC = "a-topic"

/** Parks `count` entries. */
async function park(database: SqlEngine["database"], count: number): Promise<OutboxStore> {
  const harness = outboxHarness(database)
  const tenant = freshTenant()
  const store = harness.another()
  await harness.add(Array.from({ length: count }, (_, n) => outboxEntry(TOPIC, tenant, `k${n}`, n)))
  const batch = await store.claim(scope, { topic: TOPIC, max: 100, maxBytes: 1e6, leaseMs: 60_000 })
  const fault = { reason: "INTERNAL", message: "internal error" }
  await store.settle(scope, batch, { park: idsOf(batch).map((id) => ({ id, fault })) })
  return store
}

describe("operators of several outboxes", () => {
  let engines: SqlEngine[] = []
  let operators: OutboxOperators
  let away = false
  before(async () => {
    engines = await Promise.all([embeddedDatabase(), embeddedDatabase()])
    const stores = await Promise.all(engines.map(({ database }, at) => park(database, 3 + at)))
    operators = new OutboxOperators(
      stores.map((store, at) => ({
        name: `store-${at}`,
        signals: createOutboxSignals(),
        store: {
          claim: (...args) => store.claim(...args),
          settle: (...args) => store.settle(...args),
          status: (...args) => (away && at === 0 ? Promise.reject(AWAY) : store.status(...args)),
          listParked: (...args) => store.listParked(...args),
          replay: (...args) => store.replay(...args),
        },
      })),
    )
  })
  after(() => Promise.all(engines.map((engine) => engine.close())))

  it("lists topics of all, and parked entries page by page, each once", async () => {
    for (const size of [1, 2, 3, 5, 7, 100]) {
      const seen: string[] = []
      let cursor: readonly string[] | undefined
      do {
        const { topics, parked, unreachable } = await operators.list(scope, {}, { size, cursor })
        assert.deepEqual(
          topics.map(({ store, pending, parked: stuck }) => [store, pending, stuck]),
          [
            ["store-0", 0n, 3n],
            ["store-1", 0n, 4n],
          ],
        )
        assert.deepEqual(unreachable, [])
        assert.ok(parked.items.length <= size)
        seen.push(...parked.items.map(({ store, opId }) => `${store} ${opId}`))
        cursor = parked.next
      } while (cursor !== undefined)
      const wanted = [3, 4].flatMap((count, at) =>
        Array.from({ length: count }, (_, n) => `store-${at} k${n}:${n}`),
      )
      assert.deepEqual(seen, wanted)
    }
  })

  it("shows what it can while a store is away, and names that store", async () => {
    away = true
    const { topics, parked, unreachable } = await operators.list(scope, {}, { size: 100 })
    assert.deepEqual([topics.length, parked.items.length, unreachable], [1, 4, ["store-0"]])
    await assert.rejects(operators.list(scope, { store: "store-0" }, { size: 100 }), AWAY)
    await assert.rejects(operators.list(scope, { store: "nowhere" }, { size: 100 }), { reason: "NOT_FOUND" })
    away = false
  })

  it("replays by store, topic and id, and takes no ids without a store", async () => {
    const { parked } = await operators.list(scope, { store: "store-1" }, { size: 2 })
    const ids = parked.items.map(({ id }) => id)
    await assert.rejects(operators.replay(scope, { ids }), { reason: "INVALID_FIELD" })
    assert.equal(await operators.replay(scope, { store: "store-1", topic: "another", ids }), 0)
    assert.equal(await operators.replay(scope, { store: "store-1", ids }), 2)
    assert.equal(await operators.replay(scope, { topic: TOPIC }), 5)
    const { topics } = await operators.list(scope, {}, { size: 1 })
    assert.deepEqual(
      topics.map(({ pending, parked: stuck }) => [pending, stuck]),
      [
        [3n, 0n],
        [4n, 0n],
      ],
    )
  })
})
