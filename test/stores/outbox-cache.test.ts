/** Invalidations that come through the outbox, on the in-process cache. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { cacheInvalidation, cacheInvalidationHandler } from "../../src/domain/outbox/cache-relay.ts"
import type { NewOutboxEntry } from "../../src/domain/outbox/model.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"

const [ONE, TWO] = ["one" as TenantId, "two" as TenantId]
const namespaces = new Namespaces()
const space = namespaces.resolve("")

const batchOf = (...entries: readonly NewOutboxEntry[]) => ({
  topic: "cache-invalidate",
  fence: 1n,
  entries: entries.map((entry, n) => ({
    ...entry,
    id: String(n),
    traceparent: "",
    createdMs: 0,
    failures: 0,
    strikes: 0,
  })),
})

test("keys with one of the tags are absent afterwards, of that tenant and namespace only, and twice does no harm", async () => {
  const { store } = createInProcessEngines({})
  const handle = cacheInvalidationHandler(store, namespaces)
  const set = async (tenant: TenantId, key: string, tags: readonly string[]) =>
    store.write(systemScope(tenant), {
      kind: "set",
      namespace: space,
      key,
      content: { case: "text", value: key },
      contentType: "",
      expiration: undefined,
      keepExpiration: false,
      condition: "always",
      ifRevision: undefined,
      tags,
    })
  const left = async (tenant: TenantId) =>
    (await store.batchGet(systemScope(tenant), space, ["a", "b", "c"])).map((entry) => entry !== undefined)
  for (const tenant of [ONE, TWO]) {
    await set(tenant, "a", ["x"])
    await set(tenant, "b", ["y", "z"])
    await set(tenant, "c", [])
  }
  const batch = batchOf(cacheInvalidation(ONE, "", ["x"]), cacheInvalidation(ONE, "", ["z", "x"]))
  await handle(systemScope(), batch)
  await handle(systemScope(), batch)
  assert.deepEqual(await left(ONE), [false, false, true])
  assert.deepEqual(await left(TWO), [true, true, true])
  await assert.rejects(handle(systemScope(), batchOf(cacheInvalidation(ONE, "nowhere", ["x"]))), DomainError)
})
