/** What scripts on the in-process engine may not do: hang it, grow it, escape, touch other keys, or leave half their work. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { JsonValue } from "../../src/domain/kernel/json.ts"
import { DEFAULT_TENANT } from "../../src/domain/kernel/scope.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { LUA_LIMITS, LuaScripts } from "../../src/stores/inprocess/lua-scripts.ts"
import { fails, op, put, read, scopeOf, space, text } from "../contract/cache-support.ts"
import { ManualClock } from "../support/manual-clock.ts"

const scope = scopeOf(DEFAULT_TENANT)

/** Runs one script with KEYS a, b, c. The instruction limit alone ends it, so that no clock decides the test. */
function engine(script: string) {
  const limits = { ...LUA_LIMITS, maxMs: Number.POSITIVE_INFINITY, maxInstructions: 300_000 }
  const { store } = createInProcessEngines({
    clock: new ManualClock(),
    scripts: new LuaScripts({ script }, limits),
  })
  const call = (args: string[], namespace = space()) => ({
    name: "script",
    keys: ["a", "b", "c"],
    args,
    namespace,
  })
  return {
    store,
    run: async (args: string[] = [], namespace = space()): Promise<JsonValue> =>
      await store.runScript(scope, namespace, call(args)),
  }
}

describe("scripts", () => {
  const endless = {
    "a loop": `while true do end`,
    "a jump": `::again:: goto again`,
    "a loop behind pcall": `while true do pcall(function() while true do end end) end`,
    "a loop behind pcall in pcall": `pcall(function() while true do pcall(error) end end) while true do end`,
    recursion: `local function f() return f() end return f()`,
    "a loop in a comparison": `table.sort({ 3, 2, 1 }, function() while true do end end)`,
    "a loop in a closing variable": `while true do pcall(function() error("x") end) end`,
    "endless calls": `while true do redis.call("INCR", KEYS[1]) end`,
  }
  for (const [name, script] of Object.entries(endless)) {
    it(`ends ${name}, and undoes what was done`, async () => {
      const { store, run } = engine(`redis.call("SET", KEYS[1], "7") ${script}`)
      await put(store, scope, "a", "6")
      const error = await fails("SCRIPT_FAILED", () => run())
      assert.match(error.message, /more than 300000 instructions/)
      assert.equal(await read(store, scope, "a"), "6")
    })
  }

  const greedy = {
    tables: `local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end`,
    strings: `local s = "x" while true do s = s .. s end`,
    depth: `local function f() return f() + 1 end return f()`,
    "one large string": `return ("x"):rep(1048576):rep(1000)`,
  }
  for (const [name, script] of Object.entries(greedy)) {
    it(`stops at the memory limit: ${name}`, async () => {
      const error = await fails("SCRIPT_FAILED", () => engine(script).run())
      assert.match(error.message, /memory|overflow|instructions/)
    })
  }

  it("refuses sums that a script's numbers do not hold, and leaves what was there", async () => {
    const script = `redis.call("SET", KEYS[1], ARGV[1]) local ok = redis.pcall("INCRBY", KEYS[1], ARGV[2])
      return { type(ok) == "table" and ok.err or ok, redis.call("GET", KEYS[1]) }`
    const { run } = engine(script)
    const refused = 'FAILED_PRECONDITION: the sum under "a" does not fit the numbers of scripts'
    for (const [before, delta, answer, after] of [
      ["9007199254740990", "1", 9_007_199_254_740_991, "9007199254740991"],
      ["9007199254740991", "1", refused, "9007199254740991"],
      ["9007199254740993", "-2", 9_007_199_254_740_991, "9007199254740991"],
      ["9223372036854775807", "1", refused, "9223372036854775807"],
      ["-9007199254740991", "-1", refused, "-9007199254740991"],
    ] as const) {
      assert.deepEqual(await run([before, delta]), [answer, after])
    }
  })

  it("has only harmless globals", async () => {
    const script = `local names = {} for name in pairs(_G) do names[#names + 1] = name end
      for name in pairs(string) do names[#names + 1] = "string." .. name end table.sort(names) return names`
    assert.deepEqual(await engine(script).run(), [
      ..."ARGV KEYS _G assert error ipairs math next pairs pcall redis select".split(" "),
      "string",
      ..."byte char format len lower rep reverse sub upper".split(" ").map((name) => `string.${name}`),
      ..."table tonumber tostring type unpack utf8".split(" "),
    ])
    await fails("SCRIPT_FAILED", () => engine(`return ("").rep("", 1e18)`).run())
    await fails("SCRIPT_FAILED", () => engine(`return table.move({}, 1, 1e18, 2)`).run())
  })

  it("starts afresh each time, whatever a script did to its globals", async () => {
    const { run } = engine(`local seen = leak or "nothing" leak = "leaked" string.upper = nil return seen`)
    assert.equal(await run(), "nothing")
    assert.equal(await run(), "nothing")
  })

  it("reaches no key that it has not declared, and no other kind than its namespace's", async () => {
    const { store, run } = engine(`return redis.call(ARGV[1], ARGV[2], "x")`)
    await put(store, scope, "other", "secret")
    const error = await fails("SCRIPT_FAILED", () => run(["GET", "other"]))
    assert.match(error.message, /"other" is not declared/)
    await fails("SCRIPT_FAILED", () => run(["FLUSHALL", "a"]))
    await fails("SCRIPT_FAILED", () => run(["DEL", "a", "other"]))
    assert.equal(await run(["GET", "a"]), false)
    assert.match(
      (await fails("SCRIPT_FAILED", () => run(["SET", "a"], space("context")))).message,
      /WRONG_TYPE/,
    )
  })

  it("refuses NUL rather than cut a text", async () => {
    const { store, run } = engine(`return redis.call("GET", KEYS[1])`)
    await put(store, scope, "a", "x\0y")
    await fails("SCRIPT_FAILED", () => run())
    await fails("INVALID_FIELD", () => run(["x\0y"]))
    await fails("SCRIPT_FAILED", () => engine(`return redis.call("SET", KEYS[1], "a\\0b")`).run())
  })

  it("turns results into JSON, and errors into failures", async () => {
    const result = await engine(
      `return { 1, -2.5, "quote \\" slash \\\\ line \\n é", true, { name = ARGV[1] }, {}, redis.call("GET", KEYS[1]) }`,
    ).run(["😀"])
    assert.deepEqual(result, [1, -2.5, 'quote " slash \\ line \n é', true, { name: "😀" }, [], false])
    assert.equal(await engine(`return nil`).run(), null)
    const failing = [
      `error("boom")`,
      `error({})`,
      `return +`,
      `return 0/0`,
      `return pcall`,
      `return redis.error_reply("no")`,
    ]
    failing.push(`local t = {} t[1] = t return t`)
    for (const script of failing) await fails("SCRIPT_FAILED", () => engine(script).run())
    assert.equal(await engine(`return redis.pcall("INCR", KEYS[1], 1)`).run(), 1)
    assert.match(String(await engine(`return redis.pcall("HGET", "x", "y").err`).run()), /not declared/)
  })

  it("has the commands on all kinds", async () => {
    const { store, run } = engine(`
      local c = redis.call
      c("HSET", KEYS[1], "f", 1, "g", "x") c("HINCRBY", KEYS[1], "f", 2) c("HINCRBYFLOAT", KEYS[1], "f", 0.5)
      c("RPUSH", KEYS[2], "a", "b") c("LPUSH", KEYS[2], "c") c("LTRIM", KEYS[2], 0, 1)
      c("ZADD", KEYS[3], 2, "m", 1, "n") c("ZINCRBY", KEYS[3], 5, "n") c("ZADD", KEYS[3], "NX", 9, "m")
      c("PEXPIRE", KEYS[3], 1500)
      return { c("HMGET", KEYS[1], "f", "none"), c("HGETALL", KEYS[1]), c("HLEN", KEYS[1]), c("HEXISTS", KEYS[1], "g"),
        c("LRANGE", KEYS[2], 0, -1), c("LLEN", KEYS[2]), c("LINDEX", KEYS[2], -1), c("ZRANGE", KEYS[3], 0, -1, "WITHSCORES"),
        c("ZRANGEBYSCORE", KEYS[3], "(2", "+inf"), c("ZRANK", KEYS[3], "n"), c("ZSCORE", KEYS[3], "m"), c("ZCARD", KEYS[3]),
        c("ZCOUNT", KEYS[3], "-inf", 2), c("PTTL", KEYS[3]), c("TTL", KEYS[3]), c("TYPE", KEYS[2]).ok, c("EXISTS", KEYS[1], KEYS[2]),
        c("HDEL", KEYS[1], "g"), c("LPOP", KEYS[2]), c("ZREM", KEYS[3], "m"), c("TIME")[1], c("PERSIST", KEYS[3]), c("TTL", KEYS[3]) }`)
    const clock = new ManualClock()
    assert.deepEqual(await run(), [
      ["3.5", false],
      ["f", "3.5", "g", "x"],
      2,
      1,
      ["c", "a"],
      2,
      "a",
      ["m", "2", "n", "6"],
      ["n"],
      1,
      "2",
      2,
      1,
      1_500,
      2,
      "list",
      2,
      1,
      "c",
      1,
      String(Math.floor(clock.now() / 1_000)),
      1,
      -1,
    ])
    const list = await store.read(scope, op({ kind: "listRange", key: "b" }))
    assert.deepEqual(list.values, [text("a")])
  })
})
