/** The rate-limit suite on a Redis or Valkey server. */
import { describe } from "node:test"
import { exceptionsOf } from "../contract/exceptions.ts"
import { rateLimitContract } from "../contract/rate-limit.contract.ts"
import { freshTenant, redisSkip, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

describe("redis", { skip: redisSkip }, () => {
  rateLimitContract(
    async () => {
      const clock = new ManualClock()
      const { rateLimiter: limiter } = await testRedis({ clock })
      return { limiter, clock, freshTenant }
    },
    exceptionsOf("Redis, Valkey", "rate-limit"),
  )
})
