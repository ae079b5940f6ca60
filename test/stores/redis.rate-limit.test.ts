/** The rate-limit suite on Redis and Valkey servers. */
import { describe } from "node:test"
import { exceptionsOf } from "../contract/exceptions.ts"
import { rateLimitContract } from "../contract/rate-limit.contract.ts"
import { freshTenant, redisKinds, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

for (const { name, skip, url } of redisKinds) {
  describe(name, { skip }, () => {
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
