/** Random sequences of operations on the server and in the daemon's own memory: the same answers, failures included. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { describe, it } from "node:test"
import fc from "fast-check"
import { Redis } from "ioredis"
import type { Operation, Outcome } from "../../src/domain/cache/operations.ts"
import type { CacheStore } from "../../src/domain/cache/ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { JsonValue } from "../../src/domain/kernel/json.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { LuaScripts } from "../../src/stores/inprocess/lua-scripts.ts"
import { op, scopeOf, space, text } from "../contract/cache-support.ts"
import { atEnd, freshTenant, redisKinds, testRedis } from "../engines/redis.ts"
import { ManualClock } from "../support/manual-clock.ts"

const INT64 = 9_223_372_036_854_775_807n
const key = fc.constantFrom("a", "b", "c")
const word = fc.constantFrom(
  "x",
  "12",
  "-0",
  "+1.5",
  "1e3",
  ".5",
  "é",
  "9223372036854775807",
  "0x10",
  "007",
  "",
)
const words = fc.array(word, { minLength: 1, maxLength: 4 })
const index = fc.integer({ min: -5, max: 5 })
const score = fc.constantFrom(-3, -0.1, 0, 1, 1, 2.5, 1e300)
const end = fc.constantFrom("head" as const, "tail" as const)
const expiration = fc.constantFrom(
  undefined,
  undefined,
  "never" as const,
  { ttlMs: 10 },
  { ttlMs: 40 },
  { atMs: 0 },
)
const namespace = fc.constantFrom(space("sliding"), space("limited"))
const refreshTtl = fc.boolean()
const growth = { key, namespace, expiration, refreshTtl }
const target = { key, namespace }
const whole = fc.constantFrom(-7n, 0n, 1n, 12n, 9_007_199_254_740_993n, INT64, -INT64 - 1n)
const wholeBound = fc.constantFrom(undefined, undefined, -5n, 20n, INT64)
const addition = fc.oneof(
  fc.record({
    case: fc.constant("integer" as const),
    delta: whole,
    initial: whole,
    minimum: wholeBound,
    maximum: wholeBound,
  }),
  fc.record({
    case: fc.constant("number" as const),
    delta: fc.constantFrom(0.1, -2, Number.MAX_VALUE),
    initial: fc.constantFrom(0, 0.2),
    minimum: fc.constantFrom(undefined, -3),
    maximum: fc.constantFrom(undefined, undefined, 5),
  }),
)
const scores = {
  minimum: score,
  maximum: score,
  minimumExclusive: fc.boolean(),
  maximumExclusive: fc.boolean(),
}
const members = fc.array(fc.record({ member: word, score }), { minLength: 1, maxLength: 4 })
const setCondition = fc.constantFrom("always" as const, "ifAbsent" as const, "ifPresent" as const)
const addCondition = fc.constantFrom(...(["always", "ifAbsent", "ifPresent", "ifGreater", "ifLess"] as const))

const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record(target).map((rest) => op({ kind: "get", ...rest })),
  fc
    .record({
      ...target,
      word,
      expiration,
      keepExpiration: fc.boolean(),
      condition: setCondition,
      tags: fc.subarray(["s", "t"]),
    })
    .map(({ word, ...rest }) => op({ kind: "set", ...rest, ...text(word) })),
  fc.record(target).map((rest) => op({ kind: "delete", ...rest })),
  fc
    .record({ ...target, expiration: fc.constantFrom("never" as const, { ttlMs: 15 }, { atMs: 0 }) })
    .map((rest) => op({ kind: "expire", ...rest })),
  fc.record({ ...growth, addition }).map((rest) => op({ kind: "increment", ...rest })),
  fc.record({ ...growth, words, onlyIfAbsent: fc.boolean() }).map(({ words, ...rest }) => {
    const fields = words.map((name, at) => ({ name, value: text(`${at}`) }))
    return op({ kind: "hashSet", ...rest, fields })
  }),
  fc.record({ ...growth, name: word, addition }).map((rest) => op({ kind: "hashIncrement", ...rest })),
  fc
    .record({ ...target, names: fc.oneof(words, fc.constant([])) })
    .map((rest) => op({ kind: "hashGet", ...rest })),
  fc.record({ ...target, names: words }).map((rest) => op({ kind: "hashDelete", ...rest })),
  fc
    .record({ ...growth, end, words, maximumLength: fc.constantFrom(0, 2, 5), onlyIfPresent: fc.boolean() })
    .map(({ words, ...rest }) => op({ kind: "listPush", ...rest, values: words.map(text) })),
  fc.record({ ...target, start: index, stop: index }).map((rest) => op({ kind: "listRange", ...rest })),
  fc
    .record({ ...target, end, count: fc.integer({ min: 1, max: 3 }) })
    .map((rest) => op({ kind: "listPop", ...rest })),
  fc.record({ ...target, start: index, stop: index }).map((rest) => op({ kind: "listTrim", ...rest })),
  fc
    .record({ ...growth, members, condition: addCondition })
    .map((rest) => op({ kind: "sortedSetAdd", ...rest })),
  fc
    .record({ ...growth, member: word, delta: fc.constantFrom(1, -0.1, Number.MAX_VALUE) })
    .map((rest) => op({ kind: "sortedSetIncrement", ...rest })),
  fc.record({ ...target, members: words }).map((rest) => op({ kind: "sortedSetRemove", ...rest })),
  fc
    .record({
      ...target,
      reverse: fc.boolean(),
      offset: fc.integer({ min: 0, max: 2 }),
      limit: fc.integer({ min: 1, max: 4 }),
      by: fc.oneof(
        fc.record({ rank: fc.record({ start: index, stop: index }) }),
        fc.record({ score: fc.record(scores) }),
      ),
    })
    .map((rest) => op({ kind: "sortedSetRange", ...rest })),
)

type Step =
  | {
      readonly do: "run"
      readonly operations: readonly Operation[]
      readonly atomic: boolean
      readonly alone: boolean
    }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "invalidate"; readonly tag: string }
  | { readonly do: "sweep" }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc
      .record({
        operations: fc.array(operation, { minLength: 1, maxLength: 5 }),
        atomic: fc.boolean(),
        alone: fc.boolean(),
        namespace,
      })
      .map(({ operations, atomic, alone, namespace }): Step => {
        const own = atomic ? operations.map((each) => ({ ...each, namespace })) : operations
        return { do: "run", operations: own, atomic, alone }
      }),
  },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 30 }).map((ms) => ({ do: "wait" as const, ms })) },
  { weight: 1, arbitrary: fc.constantFrom("s", "t").map((tag) => ({ do: "invalidate" as const, tag })) },
  { weight: 1, arbitrary: fc.constant({ do: "sweep" as const }) },
)

/** What must be equal: everything but revisions, which each engine draws for itself. */
function comparable(outcome: Outcome): unknown {
  if (!outcome.ok) return failure(outcome.error)
  const { result } = outcome
  return typeof result === "object"
    ? { ...result, revision: "revision" in result && result.revision > 0n }
    : result
}

/** Each operation by its own call, which may take another way than in a batch. */
async function oneByOne(
  store: CacheStore,
  scope: ReturnType<typeof scopeOf>,
  operations: readonly Operation[],
): Promise<readonly unknown[]> {
  const ends: unknown[] = []
  for (const operation of operations) {
    const end = await outcomeOf(async () =>
      comparable({ ok: true, result: await run(store, scope, operation) }),
    )
    ends.push(end)
  }
  return ends
}

function run(store: CacheStore, scope: ReturnType<typeof scopeOf>, operation: Operation) {
  switch (operation.kind) {
    case "get":
    case "hashGet":
    case "listRange":
    case "sortedSetRange":
      return store.read(scope, operation)
    default:
      return store.write(scope, operation)
  }
}

function failure({ reason, message, metadata, violations }: DomainError): unknown {
  return { reason, message, metadata, violations }
}

async function outcomeOf(work: () => unknown): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DomainError) return failure(error)
    throw error
  }
}

async function keysOf(store: CacheStore, scope: ReturnType<typeof scopeOf>): Promise<unknown> {
  const pages = [space("sliding"), space("limited")].map(async (each) => {
    const { items } = await store.listKeys(scope, each, "", { size: 10 })
    return items.map(({ key, kind, expireTimeMs }) => ({ key, kind, expireTimeMs }))
  })
  return await Promise.all(pages)
}

function bothOf(here: CacheStore, there: CacheStore, work: (store: CacheStore) => unknown) {
  return Promise.all([here, there].map((store) => outcomeOf(() => work(store))))
}

/** The bytes that each namespace counts once it is cleared, when nothing else of it is on the server any more. */
async function remains(
  client: Redis,
  store: CacheStore,
  scope: ReturnType<typeof scopeOf>,
  prefix: string,
): Promise<readonly (string | null)[]> {
  const { tenant } = scope
  const bytes = ["sliding", "limited"].map(async (name) => {
    await store.clearNamespace(scope, space(name))
    const own = `${prefix}:{${tenant.length}:${tenant}:${name}}:`
    const left = (await client.keys(`${own}*`)).filter((key) => key !== `${own}counters`)
    assert.deepEqual(left, [])
    return (await client.hget(`${own}counters`, "b")) ?? "0"
  })
  return await Promise.all(bytes)
}

for (const kind of redisKinds) {
  describe(`${kind.name} against the in-process engine`, { skip: kind.skip }, () => {
    it("answers the same to every sequence of operations", async () => {
      const clock = new ManualClock()
      const prefix = `same-${randomUUID()}`
      const url = await kind.url()
      const { cache: there } = await testRedis({ url, clock, prefix })
      const client = new Redis(url)
      atEnd(() => client.disconnect())
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 30 }), async (steps) => {
          const { store: here } = createInProcessEngines({ clock })
          const scope = scopeOf(freshTenant())
          for (const each of steps) {
            const both = (work: (store: CacheStore) => unknown) => bothOf(here, there, work)
            if (each.do === "wait") clock.advance(each.ms)
            else if (each.do === "sweep") await both((store) => store.sweep(scope, 50))
            else if (each.do === "invalidate")
              await both((store) => store.invalidateTags(scope, space("sliding"), [each.tag]))
            else {
              const [expected, actual] = await both(async (store) => {
                if (each.alone) return await oneByOne(store, scope, each.operations)
                return (await store.execute(scope, each.operations, each.atomic)).map(comparable)
              })
              assert.deepEqual(actual, expected)
            }
            assert.deepEqual(await keysOf(there, scope), await keysOf(here, scope))
            const [expected, actual] = await bothOf(here, there, async (store) => {
              const entries = await store.batchGet(scope, space("limited"), ["a", "b", "a", "c"])
              return entries.map((entry) => entry && [entry.content, entry.expireTimeMs, entry.tags])
            })
            assert.deepEqual(actual, expected)
          }
          assert.deepEqual(await remains(client, there, scope, prefix), ["0", "0"])
        }),
        { numRuns: Number(process.env.KEELPLANE_TEST_RUNS ?? 60) },
      )
    })

    const scripts: Readonly<Record<string, string>> = {
      commands: `
      local c = redis.call
      c("HSET", KEYS[1], "f", 1, "g", "x") c("HINCRBY", KEYS[1], "f", 2) c("HINCRBYFLOAT", KEYS[1], "f", 0.5)
      c("RPUSH", KEYS[2], "a", "b") c("LPUSH", KEYS[2], "c") c("LTRIM", KEYS[2], 0, 1)
      c("ZADD", KEYS[3], 2, "m", 1, "n") c("ZINCRBY", KEYS[3], 5, "n") c("ZADD", KEYS[3], "NX", 9, "m")
      c("PEXPIRE", KEYS[3], 1500)
      return { c("HMGET", KEYS[1], "f", "none"), c("HGETALL", KEYS[1]), c("HLEN", KEYS[1]), c("HEXISTS", KEYS[1], "g"),
        c("LRANGE", KEYS[2], 0, -1), c("LLEN", KEYS[2]), c("LINDEX", KEYS[2], -1), c("ZRANGE", KEYS[3], 0, -1, "WITHSCORES"),
        c("ZRANGEBYSCORE", KEYS[3], "(2", "+inf"), c("ZRANK", KEYS[3], "n"), c("ZSCORE", KEYS[3], "m"), c("ZCARD", KEYS[3]),
        c("ZCOUNT", KEYS[3], "-inf", 2), c("PTTL", KEYS[3]), c("TTL", KEYS[3]), c("TYPE", KEYS[2]).ok, c("EXISTS", KEYS[1], KEYS[2]),
        c("HDEL", KEYS[1], "g"), c("LPOP", KEYS[2]), c("ZREM", KEYS[3], "m"), c("TIME")[1], c("PERSIST", KEYS[3]), c("TTL", KEYS[3]) }`,
      values: `
      local c = redis.call
      local seen = { c("SET", KEYS[1], "1", "NX").ok, c("SET", KEYS[1], "2", "NX"), c("INCR", KEYS[1]), c("DECRBY", KEYS[1], 5),
        c("INCRBYFLOAT", KEYS[1], "0.1"), c("GET", KEYS[1]), c("SET", KEYS[1], "x", "PX", 50).ok, c("PTTL", KEYS[1]),
        c("SET", KEYS[1], "y", "KEEPTTL").ok, c("PTTL", KEYS[1]), c("DEL", KEYS[1], KEYS[2]), c("GET", KEYS[1]), c("TTL", KEYS[1]),
        c("RPUSH", KEYS[2], "1", "2", "3"), c("RPOP", KEYS[2], 2), c("LPOP", KEYS[3]), c("TYPE", KEYS[3]).ok }
      return seen`,
      results: `return { 1, -2.5, "quote \\" slash \\\\ line \\n é", true, { name = ARGV[1] }, {}, redis.call("GET", KEYS[1]), redis.call("EXPIRE", KEYS[1], 1) }`,
      "half-done": `redis.call("SET", KEYS[1], "1") redis.call("RPUSH", KEYS[2], "1") error("boom")`,
      "beyond doubles": `
      local c, try = redis.call, redis.pcall
      c("SET", KEYS[1], "9007199254740990")
      local seen = { c("INCR", KEYS[1]), try("INCR", KEYS[1]).err, c("GET", KEYS[1]), c("DECRBY", KEYS[1], 9007199254740991),
        c("DECRBY", KEYS[1], "9007199254740991"), try("DECR", KEYS[1]).err, try("INCRBY", KEYS[1], "9007199254740992").err }
      c("SET", KEYS[1], "9223372036854775807") c("HSET", KEYS[2], "f", "9007199254740993")
      for _, each in ipairs({ try("INCR", KEYS[1]).err, try("DECR", KEYS[1]).err, c("GET", KEYS[1]),
        try("HINCRBY", KEYS[2], "f", 1).err, c("HINCRBY", KEYS[2], "f", -2), c("HGET", KEYS[2], "f") }) do seen[#seen + 1] = each end
      return seen`,
      stranger: `redis.call("SET", KEYS[1], "1") return redis.call("GET", "other")`,
      caught: `return { redis.pcall("INCR", KEYS[1], 1), redis.pcall("LPUSH", KEYS[1], "x").err ~= nil, redis.pcall("FLUSHALL").err }`,
      "wrong kind": `redis.call("RPUSH", KEYS[1], "1") return redis.call("GET", KEYS[1])`,
      "not finite": `return 0/0`,
      "not Lua": `return +`,
    }

    it("runs scripts with the same results, and leaves the same after those that fail", async () => {
      const clock = new ManualClock()
      const { cache: there } = await testRedis({ url: await kind.url(), clock, scripts })
      const { store: here } = createInProcessEngines({ clock, scripts: new LuaScripts(scripts) })
      for (const name of Object.keys(scripts)) {
        const scope = scopeOf(freshTenant())
        const ends = []
        for (const store of [here, there]) {
          const list = op({ kind: "listPush", key: "b", values: [text("before")] })
          if (name === "half-done") await store.write(scope, list)
          const end = await outcomeOf(async (): Promise<JsonValue> => {
            return await store.runScript(scope, space(), { name, keys: ["a", "b", "c"], args: ["😀"] })
          })
          const { items } = await store.listKeys(scope, space(), "", { size: 10 })
          const reason = typeof end === "object" && end !== null && "reason" in end ? end.reason : end
          ends.push([reason, items.map(({ key, kind, expireTimeMs }) => ({ key, kind, expireTimeMs }))])
        }
        assert.deepEqual(ends[1], ends[0], name)
      }
    })
  })
}
