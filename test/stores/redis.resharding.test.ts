/** What only a cluster can do to a cache: spread it, move its slots while it is in use, lose a part. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { describe, it } from "node:test"
import type { Redis } from "ioredis"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { slotOf } from "../../src/stores/redis/slots.ts"
import { fails, op, put, read, repeatable, scopeOf, space, text } from "../contract/cache-support.ts"
import { freshTenant, ownServerSkip, startRedis, testRedis } from "../engines/redis.ts"
import { clusterUrl, nodeId, type RedisCluster, startCluster, until } from "../engines/redis-cluster.ts"

const ADD = { case: "integer", delta: 1n, initial: 0n, minimum: undefined, maximum: undefined } as const
const fresh = () => scopeOf(freshTenant())
const on = (index: number) => `{agent-${index}}:k`
const ENTITIES = Array.from({ length: 40 }, (_, index) => on(index))

/** The master of a slot, and another one. */
async function ownerOf({ clients }: RedisCluster, slot: number): Promise<readonly [Redis, Redis]> {
  for (const [index, client] of clients.entries()) {
    const map = (await client.call("CLUSTER", "SLOTS")) as [number, number, [string, number, string]][]
    const mine = await nodeId(client)
    const other = clients[(index + 1) % clients.length]
    const owns = map.some(([from, to, [, , id]]) => from <= slot && slot <= to && id === mine)
    if (owns && other !== undefined) return [client, other]
  }
  return assert.fail("nobody has the slot")
}

/** Moves a slot key by key, as an operator's tool does; `midway` runs while half of it is here and half there. */
async function move(source: Redis, target: Redis, slot: number, midway: () => Promise<void>): Promise<void> {
  const [from, to] = [await nodeId(source), await nodeId(target)]
  const port = (await target.config("GET", "port")) as [string, string]
  await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", from)
  await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to)
  let first = true
  while (true) {
    const keys = (await source.call("CLUSTER", "GETKEYSINSLOT", slot, 1)) as string[]
    const [key] = keys
    if (key === undefined) break
    await source.call("MIGRATE", "127.0.0.1", port[1], "", 0, 5_000, "KEYS", key)
    if (first) await midway()
    first = false
  }
  await target.call("CLUSTER", "SETSLOT", slot, "NODE", to)
  await source.call("CLUSTER", "SETSLOT", slot, "NODE", to)
}

describe("redis cluster in use", { skip: ownServerSkip }, () => {
  it("spreads entities over the nodes, and works on all of them at once", async () => {
    const prefix = `spread-${randomUUID()}`
    const { cache } = await testRedis({ url: await clusterUrl(), prefix })
    const scope = repeatable(fresh(), "id")
    const sets = ENTITIES.map((key) => op({ kind: "set", key, ...text(key), tags: ["t"] }))
    const written = await cache.execute(scope, sets, false)
    assert.ok(written.every(({ ok }) => ok))
    assert.deepEqual(await cache.execute(scope, sets, false), written)
    const found = await cache.batchGet(scope, space(), [...ENTITIES, "none", on(0)])
    const contents = found.map((entry) => entry?.content.value)
    assert.deepEqual(contents, [...ENTITIES, undefined, on(0)])
    const names: string[] = []
    let cursor: readonly string[] | undefined
    do {
      const page = await cache.listKeys(scope, space(), "{agent-", { size: 7, ...(cursor && { cursor }) })
      names.push(...page.items.map(({ key }) => key))
      cursor = page.next as readonly string[] | undefined
    } while (cursor !== undefined)
    assert.deepEqual(names, [...ENTITIES].sort())
    assert.equal(await cache.invalidatePattern(repeatable(scope, "pattern"), space(), "{agent-1?}:k"), 10)
    assert.equal(await cache.invalidatePattern(repeatable(scope, "pattern"), space(), "{agent-1?}:k"), 10)
    await cache.invalidateTags(scope, space(), ["t"])
    assert.ok((await cache.batchGet(scope, space(), ENTITIES)).every((entry) => entry === undefined))
    assert.equal(await cache.sweep(scope, 10_000), 30)
    await put(cache, scopeOf(scope.tenant), on(1), "v")
    await put(cache, scopeOf(scope.tenant), "plain", "v")
    assert.equal(await cache.clearNamespace(scopeOf(scope.tenant), space()), 2)
  })

  it("has one part where a capacity counts all keys", async () => {
    const { cache } = await testRedis({ url: await clusterUrl() })
    const scope = fresh()
    const few = space("few")
    for (const key of ENTITIES) await put(cache, scope, key, "v", few)
    const { items } = await cache.listKeys(scope, few, "", { size: 100 })
    assert.equal(items.length, 3)
  })

  it("is atomic over the keys of one entity, and refuses to seem so over several", async () => {
    const { cache } = await testRedis({ url: await clusterUrl(), scripts: BUILT_IN_SCRIPTS })
    const scope = fresh()
    const push = (key: string) => op({ kind: "listPush", key, values: [text("x")] })
    await cache.execute(scope, [push("{a}from"), push("{a}to")], true)
    await cache.runScript(scope, space(), { name: "list-move", keys: ["{a}from", "{a}to"], args: [] })
    const apart = [push("{a}from"), push("{b}to")]
    const error = await fails("UNSUPPORTED_BY_ENGINE", () => cache.execute(scope, apart, true))
    assert.equal(error.metadata.engine, "redis")
    await fails("UNSUPPORTED_BY_ENGINE", () =>
      cache.runScript(scope, space(), { name: "list-move", keys: ["{a}from", "to"], args: [] }),
    )
    assert.equal((await cache.execute(scope, apart, false)).length, 2)
  })

  it("charges limits of one entity together, and refuses to seem to for several", async () => {
    const { rateLimiter } = await testRedis({ url: await clusterUrl() })
    const scope = fresh()
    const rule = (key: string, limit: number) =>
      ({ name: "n", key, limit, windowMs: 3_600_000, cost: 1, algorithm: "exactLog" }) as const
    const together = [rule("{u}:a", 2), rule("{u}:b", 1)]
    assert.equal((await rateLimiter.check(scope, together)).allowed, true)
    const denied = await rateLimiter.check(scope, together)
    assert.deepEqual(
      denied.verdicts.map(({ remaining }) => remaining),
      [1, 0],
    )
    await fails("UNSUPPORTED_BY_ENGINE", () => rateLimiter.check(scope, [rule("{u}:a", 2), rule("{v}:b", 1)]))
    assert.equal((await rateLimiter.check(scope, [rule("{u}:a", 2)])).allowed, true)
  })

  it("lets exactly 100 of 500 calls from many connections through a limit of 100", async () => {
    const prefix = `limits-${randomUUID()}`
    const url = await clusterUrl()
    const engines = await Promise.all(Array.from({ length: 10 }, () => testRedis({ url, prefix })))
    const scope = fresh()
    for (const algorithm of ["exactLog", "weightedWindows"] as const) {
      const rule = { name: "n", key: "k", limit: 100, windowMs: 3_600_000, cost: 1, algorithm }
      const calls = Array.from({ length: 500 }, (_, index) =>
        engines[index % 10]?.rateLimiter.check(scope, [rule]),
      )
      const passed = (await Promise.all(calls)).filter((verdict) => verdict?.allowed)
      assert.equal(passed.length, 100, algorithm)
    }
  })
})

describe("redis cluster in trouble", { skip: ownServerSkip }, () => {
  it("loses and doubles nothing while slots move under it", async () => {
    const cluster = await startCluster()
    const prefix = `moving-${randomUUID()}`
    const { cache } = await testRedis({ url: cluster.url, prefix })
    const scope = fresh()
    const slot = slotOf(`${prefix}:{${scope.tenant.length}:${scope.tenant}:plain}:`)
    await put(cache, scope, "v", "v")
    await cache.write(scope, op({ kind: "listPush", key: "l", values: [text("x")] }))
    let done = 0
    let isMoving = true
    const adders = Array.from({ length: 8 }, async () => {
      while (isMoving) {
        await cache.write(scope, op({ kind: "increment", key: "n", addition: ADD }))
        assert.equal(await read(cache, scope, "v"), "v")
        done++
      }
    })
    const adding = Promise.all(adders)
    for (let round = 0; round < 3; round++) {
      const [source, target] = await ownerOf(cluster, slot)
      const before = done
      await move(source, target, slot, async () => undefined)
      await until("calls go on", async () => done > before + 50)
    }
    isMoving = false
    await adding
    assert.equal(await read(cache, scope, "n"), BigInt(done))
  })

  it("says that keys on their way are not there to be changed, and changes nothing", async () => {
    const cluster = await startCluster()
    const prefix = `halfway-${randomUUID()}`
    const { cache } = await testRedis({ url: cluster.url, prefix })
    const scope = fresh()
    const slot = slotOf(`${prefix}:{${scope.tenant.length}:${scope.tenant}:plain}:`)
    const add = op({ kind: "increment", key: "n", addition: ADD })
    await cache.write(scope, add)
    const [source, target] = await ownerOf(cluster, slot)
    await move(source, target, slot, async () => {
      await fails("STORE_UNAVAILABLE", () => cache.write(scope, add))
    })
    assert.equal((await cache.write(scope, add)).sum.value, 2n)
  })

  it("loses a part with a master, goes on with the rest, and heals when its replica takes over", async () => {
    const cluster = await startCluster({ replica: true })
    const { cache, pubsub, ping } = await testRedis({ url: cluster.url, timeoutMs: 1_000 })
    const scope = fresh()
    for (const key of ENTITIES) await put(cache, scope, key, "v")
    const subscription = { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 }
    const frames = pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
    await frames.next()
    // The listener is at the first node.
    const [lost] = cluster.servers
    await lost?.stop()
    const ends = async () => {
      const reads = ENTITIES.map((key) => read(cache, scope, key).catch((error: unknown) => error))
      return await Promise.all(reads)
    }
    const all = await ends()
    const gone = all.filter((end) => end instanceof Error)
    const there = all.filter((end) => end === "v")
    assert.ok(gone.length > 0 && there.length > 0)
    assert.equal(gone.length + there.length, ENTITIES.length)
    for (const error of gone) await fails("STORE_UNAVAILABLE", () => Promise.reject(error))
    await ping(scope)
    const outcomes = await cache.execute(
      scope,
      ENTITIES.map((key) => op({ kind: "get", key })),
      false,
    )
    const failed = outcomes.filter((outcome) => !outcome.ok && outcome.error.reason === "STORE_UNAVAILABLE")
    assert.equal(failed.length, gone.length)
    assert.deepEqual((await frames.next()).value, { kind: "discontinuity", dropped: 0 })
    await frames.return?.()
    await until("all keys can be written again", async () => {
      await Promise.all(ENTITIES.map((key) => put(cache, scope, key, "again")))
      return true
    })
    assert.deepEqual(new Set(await ends()), new Set(["again"]))
  })

  it("finds a cluster by any of its nodes, opens before it is there, and heals", async () => {
    const first = await startRedis()
    await first.stop()
    const { host, port } = new URL(first.url)
    const cluster = await startCluster({ masters: 2 })
    const [alive] = cluster.servers
    const one = await testRedis({ url: `redis+cluster://${host},${new URL(alive?.url ?? "").host}` })
    await put(one.cache, fresh(), "k", "v")
    const none = await testRedis({ url: `redis+cluster://${host}`, openMs: 50 })
    const scope = fresh()
    await fails("STORE_UNAVAILABLE", () => put(none.cache, scope, "k", "v"))
    assert.equal(none.stats().connected, false)
    await startCluster({ masters: 1, port: Number(port) })
    await until("it heals", async () => {
      await put(none.cache, scope, "k", "v")
      return true
    })
    assert.equal(await read(none.cache, scope, "k"), "v")
  })
})
