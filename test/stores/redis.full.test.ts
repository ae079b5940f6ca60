/**
 * A server whose memory is full and that evicts nothing: whatever would grow is STORE_FULL and leaves no trace, what shrinks and what
 * only reads goes on, and afterwards the same request_id may be used again.
 */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Redis } from "ioredis"
import type { Operation, WriteOperation } from "../../src/domain/cache/operations.ts"
import type { RateLimitRule } from "../../src/domain/cache/rate-limit.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { fails, op, put, read, repeatable, scopeOf, space, text } from "../contract/cache-support.ts"
import { freshTenant, redisKinds, startRedis, testRedis } from "../engines/redis.ts"
import { bareClient, until } from "../engines/redis-cluster.ts"

const whole = { case: "integer", delta: 1n, initial: 0n, minimum: undefined, maximum: undefined } as const
const broken = { case: "number", delta: 0.5, initial: 0, minimum: undefined, maximum: undefined } as const
const fields = [{ name: "f", value: text("v") }]
const members = [{ member: "m", score: 1 }]
const values = [text("v"), text("w")]
/** Each gives `key`; what is there already is of the same kind. */
const GROWING: Readonly<Record<string, (key: string) => WriteOperation>> = {
  value: (key) => op({ kind: "set", key, ...text("v") }),
  "tagged value": (key) => op({ kind: "set", key, ...text("v"), tags: ["tag"] }),
  "whole number": (key) => op({ kind: "increment", key, addition: whole }),
  number: (key) => op({ kind: "increment", key, addition: broken }),
  hash: (key) => op({ kind: "hashSet", key, fields }),
  "hash with one more": (key) => op({ kind: "hashSet", key, fields: [{ name: "g", value: text("v") }] }),
  "absent field": (key) =>
    op({ kind: "hashSet", key, fields: [{ name: key, value: text("v") }], onlyIfAbsent: true }),
  "number in a hash": (key) => op({ kind: "hashIncrement", key, name: "n", addition: whole }),
  list: (key) => op({ kind: "listPush", key, values }),
  "list that is cut": (key) => op({ kind: "listPush", key, values, end: "head", maximumLength: 1 }),
  "sorted set": (key) => op({ kind: "sortedSetAdd", key, members }),
  "score in a sorted set": (key) => op({ kind: "sortedSetIncrement", key, member: "m", delta: 1 }),
}
const kindOf = (name: string) => (name.includes("hash") || name.includes("field") ? "hash" : name)
const rule = (key: string, algorithm: RateLimitRule["algorithm"]): RateLimitRule => {
  return { name: "full", key, limit: 10, windowMs: 60_000, cost: 1, algorithm }
}
const WRITE = `redis.call("LPUSH", KEYS[1], "x") return 1`
const READ = `return redis.call("GET", KEYS[1])`

for (const { name, ownSkip, program } of redisKinds) {
  describe(`${name} with its memory full`, { skip: ownSkip }, () => {
    const start = async () => {
      const args = ["--maxmemory-policy", "noeviction", "--enable-debug-command", "local"]
      const { url } = await startRedis(args, undefined, undefined, program())
      const admin = bareClient(url)
      const engine = await testRedis({ url, scripts: { write: WRITE, read: READ } })
      return { ...engine, admin, scope: scopeOf(freshTenant()) }
    }

    it("STORE_FULL for whatever grows, without a trace, and the same request_id may come again", async () => {
      const { cache, rateLimiter, pubsub, admin, scope } = await start()
      const growing = Object.entries(GROWING)
      for (const [kind, make] of growing) await cache.write(scope, make(`old ${kindOf(kind)}`))
      await put(cache, scope, "other kind", "v")
      const ways = ["exactLog", "weightedWindows"] as const
      for (const way of ways) await rateLimiter.check(scope, [rule(`old ${way}`, way)])
      await cache.runScript(scope, space(), { name: "write", keys: ["scripted"], args: [] })
      const calls: [string, (scope: CallScope) => unknown][] = [
        ...growing.flatMap(([kind, make]): [string, (scope: CallScope) => unknown][] => [
          [`new ${kind}`, (own) => cache.write(own, make(`new ${kind}`))],
          [`old ${kind}`, (own) => cache.write(own, make(`old ${kindOf(kind)}`))],
          [`atomic ${kind}`, (own) => cache.execute(own, [make(`two ${kind}`), make(`three ${kind}`)], true)],
        ]),
        [
          "batch",
          (own) =>
            cache.execute(
              own,
              growing.map(([kind, make]) => make(`batch ${kind}`)),
              false,
            ),
        ],
        [
          "other kind",
          (own) =>
            cache.execute(
              own,
              [
                op({ kind: "delete", key: "other kind" }),
                op({ kind: "listPush", key: "other kind", values }),
              ],
              true,
            ),
        ],
        [
          "new script",
          (own) => cache.runScript(own, space(), { name: "write", keys: ["new scripted"], args: [] }),
        ],
        [
          "old script",
          (own) => cache.runScript(own, space(), { name: "write", keys: ["scripted"], args: [] }),
        ],
        ...ways.flatMap((way): [string, (scope: CallScope) => unknown][] => [
          [`new ${way}`, (own) => rateLimiter.check(own, [rule(`new ${way}`, way)])],
          [
            `old ${way}`,
            (own) => rateLimiter.check(own, [rule(`old ${way}`, way), rule(`other ${way}`, way)]),
          ],
        ]),
        ["publish", (own) => pubsub.publish(own, "topic", text("v"))],
      ]
      await fill(admin)
      const before = await admin.call("DEBUG", "DIGEST")
      for (const [title, call] of calls) {
        for (const own of [scope, repeatable(scope, title)]) {
          const error = await fails("STORE_FULL", async () =>
            assert.fail(`${title} gave ${show(await call(own))}`),
          )
          assert.deepEqual(error.metadata, { store: "redis" })
          assert.equal(await admin.call("DEBUG", "DIGEST"), before, `${title} left a trace`)
        }
      }
      await free(admin)
      for (const [title, call] of calls) {
        const once = await call(repeatable(scope, title))
        assert.deepEqual(await call(repeatable(scope, title)), once, title)
      }
    })

    it("goes on reading, also where a read restarts a life or moves a key in the order of use", async () => {
      const { cache, admin, scope } = await start()
      for (const namespace of [space(), space("sliding"), space("few")]) {
        await put(cache, scope, "v", "v", namespace)
        await cache.write(scope, op({ kind: "set", key: "tagged", ...text("t"), tags: ["a"], namespace }))
        await cache.write(scope, op({ kind: "hashSet", key: "h", fields, namespace }))
      }
      const lists = space("small")
      await cache.write(scope, op({ kind: "listPush", key: "l", values, namespace: lists }))
      await cache.write(scope, op({ kind: "sortedSetAdd", key: "s", members, namespace: lists }))
      await fill(admin)
      for (const namespace of [space(), space("sliding"), space("few")]) {
        assert.equal(await read(cache, scope, "v", namespace), "v")
        assert.equal(await read(cache, scope, "tagged", namespace), "t")
        const both = await cache.batchGet(scope, namespace, ["v", "none"])
        assert.deepEqual(
          both.map((entry) => entry?.content.value),
          ["v", undefined],
        )
        const hash = await cache.read(scope, op({ kind: "hashGet", key: "h", namespace }))
        assert.equal(hash.length, 1)
        const mixed = [op({ kind: "get", key: "v", namespace }), op({ kind: "hashGet", key: "h", namespace })]
        const answers = await cache.execute(scope, mixed, false)
        assert.ok(answers.every(({ ok }) => ok))
      }
      assert.equal((await cache.read(scope, op({ kind: "listRange", key: "l", namespace: lists }))).length, 2)
      const { length } = await cache.read(scope, op({ kind: "sortedSetRange", key: "s", namespace: lists }))
      assert.equal(length, 1)
      assert.equal(
        (await cache.listKeys(scope, space(), "", { size: 10, cursor: undefined })).items.length,
        3,
      )
      assert.equal(await cache.runScript(scope, space(), { name: "read", keys: ["v"], args: [] }), "v")
    })

    it("goes on with what makes room, with a request_id, too", async () => {
      const { cache, admin, scope } = await start()
      for (const [kind, make] of Object.entries(GROWING)) await cache.write(scope, make(kind))
      await cache.write(
        scope,
        op({ kind: "listPush", key: "long", values: [...values, ...values, ...values] }),
      )
      await cache.write(
        scope,
        op({ kind: "hashSet", key: "wide", fields: [...fields, { name: "g", value: text("v") }] }),
      )
      await cache.write(
        scope,
        op({ kind: "sortedSetAdd", key: "set", members: [...members, { member: "n", score: 2 }] }),
      )
      await fill(admin)
      const shrinking: readonly Operation[] = [
        op({ kind: "listPop", key: "long" }),
        op({ kind: "listTrim", key: "long", start: 0, stop: 1 }),
        op({ kind: "hashDelete", key: "wide", names: ["f"] }),
        op({ kind: "sortedSetRemove", key: "set", members: ["m"] }),
        op({ kind: "delete", key: "value" }),
        op({ kind: "delete", key: "long" }),
      ]
      for (const [index, each] of shrinking.entries())
        await cache.write(repeatable(scope, `shrink ${index}`), each as WriteOperation)
      await cache.invalidateTags(repeatable(scope, "tags"), space(), ["tag"])
      assert.equal(await read(cache, scope, "tagged value"), undefined)
      assert.equal(await cache.invalidatePattern(repeatable(scope, "pattern"), space(), "*hash"), 2)
      assert.ok((await cache.clearNamespace(scope, space())) > 0)
      assert.equal(
        (await cache.listKeys(scope, space(), "", { size: 10, cursor: undefined })).items.length,
        0,
      )
      await cache.sweep(scope, 100)
      await free(admin)
      await put(cache, scope, "value", "again")
    })
  })
}

const show = (value: unknown) =>
  JSON.stringify(value, (_, each) => (typeof each === "bigint" ? String(each) : (each as unknown)))

async function fill(admin: Redis): Promise<void> {
  await admin.config("SET", "maxmemory", "1")
  await until("it is full", async () => (await admin.set("probe", "x").catch(String)) !== "OK")
}

async function free(admin: Redis): Promise<void> {
  await admin.config("SET", "maxmemory", "0")
}
