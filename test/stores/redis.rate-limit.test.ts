/** The rate-limit suite on a Redis or Valkey server. */
import { describe } from "node:test"
import { rateLimitContract } from "../contract/rate-limit.contract.ts"
import { freshTenant, redisSkip, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

const EXCEPTIONS = {
  "sweeps windows in which nothing happens any more, and no others":
    "the server frees windows by itself a minute after they are over, so that there is nothing to sweep",
}

describe("redis", { skip: redisSkip }, () => {
  rateLimitContract(async () => {
    const clock = new ManualClock()
    const { rateLimiter: limiter } = await testRedis({ clock })
    return { limiter, clock, freshTenant }
  }, EXCEPTIONS)
})
