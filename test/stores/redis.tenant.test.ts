/** The end of a tenant on servers and on clusters. */
import { describe } from "node:test"
import type { RedisEngine } from "../../src/stores/redis/index.ts"
import { cacheEraserHarness } from "../contract/cache-eraser.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { freshTenant, redisKinds, testRedis } from "../engines/redis.ts"
import { clusterKinds } from "../engines/redis-cluster.ts"

// A name that would match others, were it taken for a pattern.
const prefix = `test-[a-z]*?-${process.pid}`

function harness({ cache: store, rateLimiter: limiter, pubsub, eraser }: RedisEngine) {
  return cacheEraserHarness({ store, limiter, pubsub, eraser: eraser("cache"), freshTenant })
}

for (const { name, skip, url } of [...redisKinds, ...clusterKinds]) {
  describe(name, { skip }, () => {
    tenantEraserContract(async () => harness(await testRedis({ prefix, url: await url() })))
  })
}
