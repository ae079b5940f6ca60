/** What changes of control resources owe to caches. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { CACHE_TOPIC, type CacheInvalidations, EVERY_NAMESPACE } from "../../src/domain/outbox/cache-relay.ts"
import { readJsonPayload } from "../../src/domain/outbox/model.ts"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createConfigStore } from "../../src/stores/postgres/config-store.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { createRoleStore } from "../../src/stores/postgres/role-store.ts"
import { createTenantStore } from "../../src/stores/postgres/tenant-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { AGENT, rejects, TENANT, USER } from "../contract/control-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
const PLAIN = { description: "" }

onSqlEngines((open) => {
  const make = async (owed: boolean) => {
    const told: string[] = []
    const invalidations: CacheInvalidations = { owed, committed: (_, tags) => told.push(...tags) }
    const { database } = await open()
    const deps = { database, clock: heldClock(), invalidations }
    const outbox = createPostgresOutboxStore(database)
    const claim = { topic: CACHE_TOPIC, max: 100, maxBytes: 1e6, leaseMs: 60_000 }
    const taken = async () => {
      const batch = await outbox.claim(systemScope(), claim)
      await outbox.settle(systemScope(), batch, { done: batch.entries.map(({ id }) => id) })
      return batch.entries
    }
    return { deps, told, taken }
  }
  const tagsIn = (entries: Awaited<ReturnType<Awaited<ReturnType<typeof make>>["taken"]>>) =>
    entries.flatMap(({ payload }) => readJsonPayload(payload))

  test("each change owes the tag of its resource in every namespace, with the trace of its call", async () => {
    const { deps, told, taken } = await make(true)
    const tenant = freshTenant()
    const scope: CallScope = { ...systemScope(tenant), trace: { traceparent: TRACEPARENT } }
    const [users, roles, configs] = [createUserStore(deps), createRoleStore(deps), createConfigStore(deps)]
    await createTenantStore(deps).create(scope, tenant, TENANT)
    await users.create(scope, "ada", USER)
    await createAgentStore(deps).create(scope, "bot", AGENT)
    await roles.create(scope, "reader", { displayName: "", description: "", permissions: ["event.read"] })
    await roles.assign(scope, "reader", { kind: "user", id: "ada" }, "")
    await configs.put(scope, "prompts/greeting", { kind: "struct", struct: {} }, PLAIN)
    await configs.delete(scope, "prompts/greeting", PLAIN)
    await users.delete(scope, "ada")
    const entries = await taken()
    assert.deepEqual(tagsIn(entries), [
      `control/tenant/${tenant}`,
      "control/user/ada",
      "control/agent/bot",
      "control/role/reader",
      "control/role/reader",
      "control/user/ada",
      "control/config/prompts/greeting",
      "control/config/prompts/greeting",
      "control/user/ada",
    ])
    assert.deepEqual(told, tagsIn(entries))
    for (const entry of entries) {
      assert.equal(entry.tenant, tenant)
      assert.equal(entry.key, EVERY_NAMESPACE)
      assert.equal(entry.traceparent, TRACEPARENT)
    }
  })

  test("a refused change owes nothing, and neither does one with a cache inside the process, which is told", async () => {
    const { deps, told, taken } = await make(true)
    const scope = systemScope(freshTenant())
    await rejects(createConfigStore(deps).delete(scope, "absent", PLAIN), "NOT_FOUND")
    assert.deepEqual([await taken(), told], [[], []])
    const inside = await make(false)
    const configs = createConfigStore(inside.deps)
    // No caller can have given the tag of the first.
    for (const key of ["k".repeat(120), "k"])
      await configs.put(scope, key, { kind: "struct", struct: {} }, PLAIN)
    assert.deepEqual([await inside.taken(), inside.told], [[], ["control/config/k"]])
  })
})
