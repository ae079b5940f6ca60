/** The end of a tenant on one server and on a cluster. */
import { describe } from "node:test"
import type { RedisEngine } from "../../src/stores/redis/index.ts"
import { cacheEraserHarness } from "../contract/cache-eraser.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { freshTenant, ownServerSkip, redisSkip, testRedis } from "../engines/redis.ts"
import { clusterUrl } from "../engines/redis-cluster.ts"

// A name that would match others, were it taken for a pattern.
const prefix = `test-[a-z]*?-${process.pid}`

function harness({ cache: store, rateLimiter: limiter, pubsub, eraser }: RedisEngine) {
  return cacheEraserHarness({ store, limiter, pubsub, eraser: eraser("cache"), freshTenant })
}

describe("redis", { skip: redisSkip }, () => {
  tenantEraserContract(async () => harness(await testRedis({ prefix })))
})

describe("redis cluster", { skip: ownServerSkip }, () => {
  tenantEraserContract(async () => harness(await testRedis({ prefix, url: await clusterUrl() })))
})
