/** The cache suite on a Redis or Valkey server. Every script runs with a guard that refuses undeclared keys. */
import { describe } from "node:test"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { cacheContract } from "../contract/cache.contract.ts"
import { freshTenant, redisSkip, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

describe("redis", { skip: redisSkip }, () => {
  cacheContract(async () => {
    const clock = new ManualClock()
    const { cache: store } = await testRedis({ clock, scripts: BUILT_IN_SCRIPTS })
    return { store, clock, freshTenant }
  })
})
