/** Two built daemons with one cache on a Redis or Valkey server. What becomes of a server that is away: away.test.ts. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { RateLimitService } from "../../src/gen/keelplane/v1/rate_limit_service_pb.ts"
import { redisKinds } from "../engines/redis.ts"
import { startDaemon } from "../support/daemon.ts"

const text = (value: string) => ({ case: "text", value }) as const

for (const { name, skip, url } of redisKinds) {
  test(`daemons share keys, scripts' effects and limits on a server: ${name}`, { skip }, async () => {
    const env = { KEELPLANE_STORES__CACHE__URL: await url() }
    const daemons = await Promise.all([startDaemon({ env }), startDaemon({ env })])
    const [left, right] = daemons.map((daemon) => daemon.channel())
    assert.ok(left !== undefined && right !== undefined)
    const key = `k-${process.pid}-${Date.now()}`
    try {
      await left.stub(CacheService).set({ key, value: text("v") })
      const found = await right.stub(CacheService).get({ key })
      assert.deepEqual(found.entry?.value, text("v"))
      const script = { name: "compare-and-delete", keys: [key], args: ["v"] }
      await right.stub(CacheService).runScript(script)
      assert.equal((await left.stub(CacheService).get({ key })).found, false)
      const limit = { name: "calls", key, limit: 1n, window: { seconds: 3_600n }, cost: 1n }
      assert.equal((await left.stub(RateLimitService).checkRateLimit({ limits: [limit] })).allowed, true)
      assert.equal((await right.stub(RateLimitService).checkRateLimit({ limits: [limit] })).allowed, false)
    } finally {
      for (const channel of [left, right]) channel.close()
      await Promise.all(daemons.map((daemon) => daemon.stop()))
    }
  })
}
