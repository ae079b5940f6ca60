/** What only a server can do to a cache: be away, be slow, be full, be shared, forget. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { describe, it } from "node:test"
import { Redis } from "ioredis"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { openRedis, type RedisEngine } from "../../src/stores/redis/index.ts"
import { fails, op, put, read, repeatable, scopeOf, space, text } from "../contract/cache-support.ts"
import {
  atEnd,
  checkingKeys,
  freshTenant,
  ownServerSkip,
  type RedisServer,
  redisSkip,
  redisUrl,
  startRedis,
  testRedis,
} from "../engines/redis.ts"

const ADD = { case: "integer", delta: 1n, initial: 0n, minimum: undefined, maximum: undefined } as const
const PATIENCE_MS = 30_000

const fresh = () => scopeOf(freshTenant())

/** Waits until `work` no longer fails. */
async function eventually<T>(work: () => Promise<T>): Promise<T> {
  const until = Date.now() + PATIENCE_MS
  while (true) {
    try {
      return await work()
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

/** An engine on a server of the test's own. */
async function on({ url }: Pick<RedisServer, "url">): Promise<RedisEngine> {
  const engine = await openRedis({ url })
  atEnd(() => engine.close())
  return engine
}

async function plain(): Promise<Redis> {
  const client = new Redis(await redisUrl())
  atEnd(() => client.disconnect())
  return client
}

describe("redis shared by daemons", { skip: redisSkip }, () => {
  it("guards the suites against undeclared keys", async () => {
    const client = await plain()
    const script = checkingKeys(`return redis.call("GET", ARGV[1])`)
    assert.equal(await client.eval(script, 1, "k", "k"), null)
    await assert.rejects(client.eval(script, 1, "k", "other"), /undeclared key/)
  })

  it("names keys by tenant with its length, in one slot for each namespace", async () => {
    const prefix = `named-${randomUUID()}`
    const { cache } = await testRedis({ prefix })
    const scope = repeatable(fresh(), "id")
    await cache.write(
      scope,
      op({ kind: "listPush", key: "odd}key{", values: [text("v")], expiration: { ttlMs: 9_000 } }),
    )
    await cache.write(scope, op({ kind: "set", key: "v", ...text("v"), tags: ["t"] }))
    const names = await (await plain()).keys(`${prefix}:*`)
    const { tenant } = scope
    const tag = `${prefix}:{${tenant.length}:${tenant}:plain}:`
    assert.ok(names.length >= 7)
    assert.deepEqual(
      names.filter((name) => !name.startsWith(tag)),
      [`${prefix}:spaces`],
    )
  })

  it("lets exactly 100 of 500 calls from many connections through a limit of 100", async () => {
    const prefix = `limits-${randomUUID()}`
    const engines = await Promise.all(Array.from({ length: 10 }, () => testRedis({ prefix })))
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

  it("shows one daemon what another wrote, published and left to sweep", async () => {
    const prefix = `two-${randomUUID()}`
    const [left, right] = [await testRedis({ prefix }), await testRedis({ prefix })]
    const scope = fresh()
    await put(left.cache, scope, "k", "v")
    assert.equal(await read(right.cache, scope, "k"), "v")
    const additions = [left, right].flatMap(({ cache }) =>
      Array.from({ length: 50 }, () =>
        cache.write(scope, op({ kind: "increment", key: "n", addition: ADD })),
      ),
    )
    await Promise.all(additions)
    assert.equal(await read(left.cache, scope, "n"), 100n)
    const subscription = { topics: ["t"], patterns: ["t*"], heartbeatIntervalMs: 300_000 }
    const frames = left.pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
    await frames.next()
    const sent = await right.pubsub.publish(scope, "t", text("hello"))
    const { value: frame } = await frames.next()
    assert.ok(frame?.kind === "message")
    assert.deepEqual([frame.message.payload, frame.message.sequence], [text("hello"), sent.sequence])
    await right.pubsub.publish(scope, "t", text("again"))
    assert.equal((await frames.next()).value?.message.payload.content.value, "again")
    await frames.return?.()
    await left.cache.write(scope, op({ kind: "set", key: "gone", ...text("v"), expiration: { atMs: 0 } }))
    assert.equal(await right.cache.sweep(scope, 100), 1)
  })

  it("frees what evicted collections leave behind", async () => {
    const prefix = `evict-${randomUUID()}`
    const { cache } = await testRedis({ prefix })
    const scope = fresh()
    const few = space("few")
    for (const key of ["a", "b", "c", "d", "e"])
      await cache.write(scope, op({ kind: "listPush", key, values: [text(key)], namespace: few }))
    const contents = async () => (await (await plain()).keys(`${prefix}:*:data:*`)).length
    assert.equal(await contents(), 5)
    await cache.sweep(scope, 100)
    assert.equal(await contents(), 3)
    await cache.write(scope, op({ kind: "listPush", key: "a", values: [text("new")], namespace: few }))
    const again = await cache.read(scope, op({ kind: "listRange", key: "a", namespace: few }))
    assert.deepEqual(again.values, [text("new")])
  })

  it("says discontinuity after its connection was cut, and hears what comes then", async () => {
    const { pubsub } = await testRedis()
    const scope = fresh()
    const subscription = { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 }
    const frames = pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
    await frames.next()
    await (await plain()).call("CLIENT", "KILL", "TYPE", "pubsub")
    assert.deepEqual((await frames.next()).value, { kind: "discontinuity", dropped: 0 })
    assert.equal((await pubsub.publish(scope, "t", text("after"))).subscribers, 1)
    assert.equal((await frames.next()).value?.message.payload.content.value, "after")
    await frames.return?.()
  })

  it("teaches the server its scripts again", async () => {
    const { cache } = await testRedis({ scripts: BUILT_IN_SCRIPTS })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    await (await plain()).script("FLUSH")
    assert.equal(await read(cache, scope, "k"), "v")
    const call = { name: "compare-and-set", keys: ["k"], args: ["v", "w"] }
    assert.equal(await cache.runScript(scope, space(), call), true)
  })
})

describe("redis in trouble", { skip: ownServerSkip }, () => {
  it("does a change once when the answer is late, and knows it by its request_id", async () => {
    const server = await startRedis()
    const { cache } = await on(server)
    const scope = fresh()
    const add = op({ kind: "increment", key: "n", addition: ADD })
    await cache.write(scope, op({ kind: "set", key: "other", ...text("v") }))
    process.kill(server.pid, "SIGSTOP")
    const soon = () => ({ ...repeatable(scope, "id"), deadlineMs: Date.now() + 200 })
    await fails("OUTCOME_UNKNOWN", () => cache.write(soon(), add))
    await fails("DEADLINE_EXCEEDED", () =>
      cache.get({ ...scope, deadlineMs: Date.now() + 200 }, space(), "n"),
    )
    process.kill(server.pid, "SIGCONT")
    assert.equal(await eventually(() => read(cache, scope, "n")), 1n)
    const again = await cache.write(repeatable(scope, "id"), add)
    assert.equal(again.sum.value, 1n)
    assert.equal(await read(cache, scope, "n"), 1n)
  })

  it("is unavailable while the server is gone, unknown for what was under way, and comes back", async () => {
    const server = await startRedis()
    const engine = await on(server)
    const scope = fresh()
    await put(engine.cache, scope, "k", "v")
    process.kill(server.pid, "SIGSTOP")
    const ends = [
      fails("OUTCOME_UNKNOWN", () => put(engine.cache, scope, "k", "w")),
      fails("STORE_UNAVAILABLE", () => read(engine.cache, scope, "k")),
    ]
    await new Promise((resolve) => setImmediate(resolve))
    await server.stop()
    await Promise.all(ends)
    await fails("STORE_UNAVAILABLE", () => put(engine.cache, scope, "k", "x"))
    await fails("STORE_UNAVAILABLE", () => engine.ping(scope))
    assert.equal(engine.stats().connected, false)
    await startRedis([], Number(new URL(server.url).port))
    await eventually(() => engine.ping(scope))
    assert.equal(await read(engine.cache, scope, "k"), undefined)
    await put(engine.cache, scope, "k", "y")
    assert.equal(await engine.cache.sweep(scope, 10), 0)
  })

  it("notices a server that is there and silent, and says what that may have cost", async () => {
    const server = await startRedis()
    const engine = await openRedis({ url: server.url, timeoutMs: 100 })
    atEnd(() => engine.close())
    const scope = fresh()
    const subscription = { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 }
    const frames = engine.pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
    await frames.next()
    process.kill(server.pid, "SIGSTOP")
    await fails("STORE_UNAVAILABLE", () => read(engine.cache, scope, "k"))
    await eventually(async () => assert.equal(engine.stats().listening, false))
    process.kill(server.pid, "SIGCONT")
    assert.deepEqual((await frames.next()).value, { kind: "discontinuity", dropped: 0 })
    await eventually(() => put(engine.cache, scope, "k", "v"))
    await frames.return?.()
  })

  it("says when the server is full, and goes on reading and deleting", async () => {
    const { cache } = await on(await startRedis(["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]))
    const scope = fresh()
    const few = space("small")
    await put(cache, scope, "first", "v", few)
    const error = await fails("STORE_FULL", async () => {
      for (let index = 0; index < 100; index++) await put(cache, scope, `k${index}`, "x".repeat(200_000))
    })
    assert.deepEqual(error.metadata, { store: "redis" })
    assert.equal(await read(cache, scope, "first", few), "v")
    const deleted = await cache.clearNamespace(scope, space())
    assert.ok(deleted > 5)
    await put(cache, scope, "k", "fits again")
  })

  it("says when the server refuses the password or the right", async () => {
    const { url } = await startRedis()
    const admin = new Redis(url)
    atEnd(() => admin.disconnect())
    await admin.call(
      "ACL",
      "SETUSER",
      "reader",
      "on",
      ">right",
      "~*",
      "&*",
      "+@read",
      "+@connection",
      "+info",
      "+evalsha",
    )
    const as = (user: string) => url.replace("redis://", `redis://${user}@`)
    const stranger = await on({ url: as("reader:wrong") })
    await fails("STORE_AUTH", () => stranger.ping(fresh()))
    const reader = await on({ url: as("reader:right") })
    await fails("STORE_AUTH", () => put(reader.cache, fresh(), "k", "v"))
  })

  it("opens without a server, says so, and heals when there is one", async () => {
    const server = await startRedis()
    await server.stop()
    const engine = await openRedis({ url: server.url, openMs: 50 })
    atEnd(() => engine.close())
    const scope = fresh()
    await fails("STORE_UNAVAILABLE", () => engine.ping(scope))
    await fails("STORE_UNAVAILABLE", () => put(engine.cache, scope, "k", "v"))
    await startRedis([], Number(new URL(server.url).port))
    await eventually(() => put(engine.cache, scope, "k", "v"))
    assert.equal(await read(engine.cache, scope, "k"), "v")
  })
})
