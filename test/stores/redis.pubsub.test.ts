/** The pub/sub suite on Redis and Valkey servers. */
import { describe } from "node:test"
import { REDIS_PUBSUB_LIMITS } from "../../src/stores/redis/pubsub.ts"
import { pubSubContract } from "../contract/pubsub.contract.ts"
import { freshTenant, redisKinds, testRedis } from "../engines/redis.ts"

for (const { name, skip, url } of redisKinds) {
  describe(name, { skip }, () => {
    pubSubContract(async () => {
      const pubsubLimits = { ...REDIS_PUBSUB_LIMITS, maxMessages: 16 }
      const { pubsub } = await testRedis({ url: await url(), pubsubLimits })
      return { pubsub, freshTenant, bufferedMessages: 16 }
    })
  })
}
