/** Invalidations that come through the outbox, on the in-process cache. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import {
  cacheInvalidation,
  cacheInvalidationHandler,
  controlTag,
  EVERY_NAMESPACE,
} from "../../src/domain/outbox/cache-relay.ts"
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
  const set = async (tenant: TenantId, key: string, tags: readonly string[], namespace = space) =>
    store.write(systemScope(tenant), {
      kind: "set",
      namespace,
      key,
      content: { case: "text", value: key },
      contentType: "",
      expiration: undefined,
      keepExpiration: false,
      condition: "always",
      ifRevision: undefined,
      tags,
    })
  const left = async (tenant: TenantId, namespace = space) =>
    (await store.batchGet(systemScope(tenant), namespace, ["a", "b", "c"])).map(
      (entry) => entry !== undefined,
    )
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
  const tools = namespaces.resolve("tool-results")
  for (const tenant of [ONE, TWO]) {
    await set(tenant, "a", ["x"])
    await set(tenant, "a", ["x"], tools)
  }
  await handle(systemScope(), batchOf(cacheInvalidation(ONE, EVERY_NAMESPACE, ["x"])))
  for (const [tenant, there] of [
    [ONE, false],
    [TWO, true],
  ] as const) {
    for (const each of [space, tools]) assert.equal((await left(tenant, each))[0], there)
  }
  await assert.rejects(handle(systemScope(), batchOf(cacheInvalidation(ONE, "nowhere", ["x"]))), DomainError)
})

test("a resource's tag is one that callers can give", () => {
  assert.equal(controlTag("config", "prompts/greeting"), "control/config/prompts/greeting")
  assert.equal(controlTag("config", "k".repeat(113))?.length, 128)
  assert.equal(controlTag("config", "k".repeat(114)), undefined)
  assert.equal(controlTag("config", "\u{1f600}".repeat(29)), undefined)
})
