/** A master behind a sentinel that dies, and what its replica then does not know. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { fails, put, read, scopeOf } from "../contract/cache-support.ts"
import { freshTenant, ownServerSkip, startRedis, testRedis } from "../engines/redis.ts"
import { bareClient, startSentinel, until } from "../engines/redis-cluster.ts"

const fresh = () => scopeOf(freshTenant())

describe("redis behind a sentinel", { skip: ownServerSkip }, () => {
  it("fails fast while the master is gone, and heals on the replica", async () => {
    const master = await startRedis()
    const port = new URL(master.url).port
    const replica = await startRedis(["--replicaof", "127.0.0.1", port])
    const sentinel = await startSentinel(master)
    const url = `redis+sentinel://127.0.0.1:1,127.0.0.1:${sentinel}/main`
    const { cache, pubsub, stats } = await testRedis({ url, openMs: 10_000, timeoutMs: 1_000 })
    assert.equal(stats().connected, true)
    const scope = fresh()
    await put(cache, scope, "k", "v")
    // A replica that is still being filled counts as one that has acknowledged what was written before.
    const [old, heir] = [bareClient(master.url), bareClient(replica.url)]
    await until("the replica has what was written", async () => {
      const isLinked = (await heir.info("replication")).includes("master_link_status:up")
      return isLinked && (await heir.dbsize()) === (await old.dbsize())
    })
    const subscription = { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 }
    const frames = pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
    await frames.next()
    await master.stop()
    await until("the loss is noticed", async () => !stats().connected)
    const before = Date.now()
    await fails("STORE_UNAVAILABLE", () => put(cache, scope, "k", "w"))
    assert.ok(Date.now() - before < 1_000)
    await until("the replica took over", async () => {
      await put(cache, scope, "after", "v")
      return true
    })
    assert.match(await bareClient(replica.url).info("replication"), /role:master/)
    assert.equal(await read(cache, scope, "k"), "v")
    assert.deepEqual((await frames.next()).value, { kind: "discontinuity", dropped: 0 })
    await frames.return?.()
  })

  it("leaves a master that was made a replica under it", async () => {
    const master = await startRedis()
    const replica = await startRedis(["--replicaof", "127.0.0.1", new URL(master.url).port])
    const sentinel = await startSentinel(master)
    const url = `redis+sentinel://127.0.0.1:${sentinel}/main`
    const { cache } = await testRedis({ url, openMs: 10_000 })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    const [asked, old, heir] = [`redis://127.0.0.1:${sentinel}`, master.url, replica.url].map(bareClient)
    await until("the sentinel begins", async () => {
      return (await asked?.call("SENTINEL", "FAILOVER", "main")) === "OK"
    })
    await until("they changed places", async () => {
      // Somebody writes all the time.
      await put(cache, scope, "k", "w").catch(() => undefined)
      const roles = await Promise.all([old, heir].map((client) => client?.info("replication")))
      return roles[0]?.includes("role:slave") === true && roles[1]?.includes("role:master") === true
    })
    await until("writes pass", async () => {
      await put(cache, scope, "k", "x")
      return true
    })
    assert.equal(await read(cache, scope, "k"), "x")
  })
})
