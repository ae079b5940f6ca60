/** The cache suite on Redis and Valkey servers. Every script runs with a guard that refuses undeclared keys. */
import { describe } from "node:test"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { cacheContract } from "../contract/cache.contract.ts"
import { freshTenant, redisKinds, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

for (const { name, skip, url } of redisKinds) {
  describe(name, { skip }, () => {
    cacheContract(async () => {
      const clock = new ManualClock()
      const { cache: store } = await testRedis({ url: await url(), clock, scripts: BUILT_IN_SCRIPTS })
      return { store, clock, freshTenant }
    })
  })
}
