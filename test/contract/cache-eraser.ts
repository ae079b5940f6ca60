/** A tenant of the cache plane who has something of each kind. */
import assert from "node:assert/strict"
import type { CacheStore, PubSub, RateLimiter } from "../../src/domain/cache/ports.ts"
import type { TenantEraser } from "../../src/domain/control/erasure.ts"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { op, put, read, space, text } from "./cache-support.ts"
import type { TenantEraserHarness } from "./tenant-eraser.contract.ts"

/** The ports of one engine. */
export interface CachePorts {
  readonly store: CacheStore
  readonly limiter: RateLimiter
  readonly pubsub: PubSub
  readonly eraser: TenantEraser
  freshTenant(): TenantId
}

const RULE = {
  name: "n",
  key: "{e}k",
  limit: 1,
  windowMs: 3_600_000,
  cost: 1,
  algorithm: "exactLog",
} as const

/** The harness of the suite over them. */
export function cacheEraserHarness({
  store,
  limiter,
  pubsub,
  eraser,
  freshTenant,
}: CachePorts): TenantEraserHarness {
  return {
    eraser,
    freshTenant,
    fill: async (scope) => {
      assert.equal(await read(store, scope, "k"), undefined)
      await put(store, scope, "k", "v")
      await put(store, scope, "{entity}:k", "v")
      await put(store, scope, "k", "v", space("tool-results"))
      await store.write(scope, op({ kind: "listPush", key: "{other}:list", values: [text("a"), text("b")] }))
      await store.write(scope, op({ kind: "set", key: "tagged", ...text("v"), tags: ["t"] }))
      assert.equal((await limiter.check(scope, [RULE])).allowed, true)
      await pubsub.publish(scope, "topic", text("v"))
    },
    check: async (scope) => {
      for (const key of ["k", "{entity}:k", "tagged"]) assert.equal(await read(store, scope, key), "v")
      assert.equal(await read(store, scope, "k", space("tool-results")), "v")
      assert.equal((await limiter.check(scope, [RULE])).allowed, false)
    },
  }
}
