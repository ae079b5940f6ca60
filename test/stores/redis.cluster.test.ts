/** The suites on clusters of three masters. Every script runs with a guard that refuses undeclared keys. */
import { describe } from "node:test"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { REDIS_PUBSUB_LIMITS } from "../../src/stores/redis/pubsub.ts"
import { cacheContract } from "../contract/cache.contract.ts"
import { exceptionsOf } from "../contract/exceptions.ts"
import { pubSubContract } from "../contract/pubsub.contract.ts"
import { rateLimitContract } from "../contract/rate-limit.contract.ts"
import { freshTenant, testRedis } from "../engines/redis.ts"
import { clusterKinds } from "../engines/redis-cluster.ts"
import { ManualClock } from "../support/manual-clock.ts"

for (const { name, skip, url } of clusterKinds) {
  describe(name, { skip }, () => {
    cacheContract(async () => {
      const clock = new ManualClock()
      const { cache: store } = await testRedis({ url: await url(), clock, scripts: BUILT_IN_SCRIPTS })
      return { store, clock, freshTenant }
    })

    pubSubContract(async () => {
      const pubsubLimits = { ...REDIS_PUBSUB_LIMITS, maxMessages: 16 }
      const { pubsub } = await testRedis({ url: await url(), pubsubLimits })
      return { pubsub, freshTenant, bufferedMessages: 16 }
    })

    rateLimitContract(
      async () => {
        const clock = new ManualClock()
        const { rateLimiter: limiter } = await testRedis({ url: await url(), clock })
        return { limiter, clock, freshTenant }
      },
      exceptionsOf("Redis, Valkey", "rate-limit"),
    )
  })
}
