/** The pub/sub suite on a Redis or Valkey server. */
import { describe } from "node:test"
import { REDIS_PUBSUB_LIMITS } from "../../src/stores/redis/pubsub.ts"
import { pubSubContract } from "../contract/pubsub.contract.ts"
import { freshTenant, redisSkip, testRedis } from "../engines/redis.ts"

describe("redis", { skip: redisSkip }, () => {
  pubSubContract(async () => {
    const { pubsub } = await testRedis({ pubsubLimits: { ...REDIS_PUBSUB_LIMITS, maxMessages: 16 } })
    return { pubsub, freshTenant, bufferedMessages: 16 }
  })
})
