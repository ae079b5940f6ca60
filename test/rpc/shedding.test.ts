/** Who is shed first when there is not enough for all. */
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { describe, it } from "node:test"
import { promisify } from "node:util"
import { parseTenantId } from "../../src/domain/kernel/scope.ts"
import type { Call } from "../../src/rpc/call.ts"
import type { MethodInfo } from "../../src/rpc/compile.ts"
import { InFlight, limits } from "../../src/rpc/interceptors/limits.ts"
import { DEFAULT_LIMITS, type RpcLimits } from "../../src/rpc/limits.ts"
import { MemoryPressure, oldLimitBytes, usedMemoryShare } from "../../src/rpc/memory-pressure.ts"
import { open } from "./support/harness.ts"

const ECHO: Partial<MethodInfo> = {
  access: "authenticated",
  kind: "unary",
  longLived: false,
  plane: "cache.*",
}
const WATCH: Partial<MethodInfo> = { ...ECHO, kind: "server_streaming" }
const DRAIN: Partial<MethodInfo> = { ...ECHO, platformOnly: true, plane: "admin.*" }
const HEALTH: Partial<MethodInfo> = { ...ECHO, access: "public" }

/** The interceptor alone, with a memory of the test's making. */
function setUp(overrides: Partial<RpcLimits>, used: { share: number } = { share: 0 }) {
  const inFlight = new InFlight()
  let tick = 0
  const memory = new MemoryPressure(
    () => used.share,
    () => (tick += 1_000),
  )
  const interceptor = limits({ ...DEFAULT_LIMITS, ...overrides }, inFlight, memory)
  const step = (method: Partial<MethodInfo>) => interceptor.compile(method as MethodInfo)
  /** A call that has come in and not ended; throws where it is shed. */
  const enter = (name: string, method = ECHO) => {
    const call = { tenant: parseTenantId(name) } as Call
    const made = step(method)
    made?.enter?.(call)
    return () => made?.leave?.(call)
  }
  const shed = (name: string, method = ECHO) =>
    assert.throws(() => enter(name, method), { reason: "OVERLOADED" }, name)
  return { inFlight, enter, shed, step }
}

describe("fair shares", () => {
  it("leave a tenant alone while nobody else wants anything", () => {
    const { enter, shed } = setUp({ maxInFlight: 8, fairShareAt: 0.75 })
    for (let i = 0; i < 8; i++) enter("greedy")
    shed("greedy")
  })

  it("shed who has more than his share, and let the modest in until the very end", () => {
    const { enter, shed, inFlight } = setUp({ maxInFlight: 8, fairShareAt: 0.75 })
    for (let i = 0; i < 5; i++) enter("greedy")
    enter("modest")
    shed("greedy")
    enter("modest")
    enter("third")
    assert.equal(inFlight.calls, 8)
    assert.equal(inFlight.active, 3)
    shed("modest")
    shed("fourth")
  })

  it("grow again when others leave", () => {
    const { enter, shed, inFlight } = setUp({ maxInFlight: 8, fairShareAt: 0.5 })
    const greedy = Array.from({ length: 4 }, () => enter("greedy"))
    const leave = enter("modest")
    shed("greedy")
    leave()
    enter("greedy")
    for (const end of greedy) end()
    assert.deepEqual([inFlight.calls, inFlight.active], [1, 1])
  })
})

describe("a shortage of memory", () => {
  it("sheds streams and whoever has more than others first, then everything", () => {
    const used = { share: 0.5 }
    const { enter, shed } = setUp({}, used)
    for (let i = 0; i < 3; i++) enter("greedy")
    enter("modest")
    enter("modest", WATCH)
    used.share = 0.91
    shed("modest", WATCH)
    shed("greedy")
    enter("modest")
    enter("newcomer")
    used.share = 0.95
    shed("modest")
    shed("newcomer")
    used.share = 0.5
    enter("greedy")
  })

  it("does not stop a tenant that is alone before it has to", () => {
    const { enter } = setUp({}, { share: 0.92 })
    for (let i = 0; i < 10; i++) enter("alone")
  })

  it("is told to the caller, with the time to come back", async () => {
    await using edge = await open("grpc-js tcp", { memoryShare: () => 0.97 })
    const outcome = await edge.echo({})
    assert.equal(outcome.code, 8)
    assert.equal(outcome.reason, "OVERLOADED")
    assert.deepEqual(outcome.metadata, { limit: "memory", value: "97 %" })
    assert.equal(outcome.retryMs, 1_000)
    assert.equal(outcome.pushback, "1000")
  })

  it("is read now and then, and is a share", () => {
    let now = 0
    let reads = 0
    const memory = new MemoryPressure(
      () => ++reads / 10,
      () => now,
    )
    assert.deepEqual([memory.share(), memory.share()], [0.1, 0.1])
    now = 100
    assert.equal(memory.share(), 0.2)
    const share = usedMemoryShare()
    assert.ok(share > 0 && share < 1, `${share}`)
  })

  it("is nearly 1 before V8 ends the process, also with a small heap", async () => {
    const module = new URL("../../src/rpc/memory-pressure.ts", import.meta.url).href
    const fill = `import { usedMemoryShare } from ${JSON.stringify(module)}
      const kept = []
      while (usedMemoryShare() < 0.95) {
        for (let n = 0; n < 20; n++) kept.push(Array.from({ length: 500 }, (_, i) => ({ i })))
        // As in a daemon, where calls come and go between two looks: all in one go, V8 may end the process with much of the heap unused.
        await new Promise(setImmediate)
      }
      process.stdout.write("shed")`
    const options = ["--max-old-space-size=96", "--input-type=module", "--eval", fill]
    const { stdout } = await promisify(execFile)(process.execPath, options)
    assert.equal(stdout, "shed")
    assert.equal(oldLimitBytes(["--max_old_space_size=7", "--max-old-space-size 96"]), 96 * 1_048_576)
  })
})

it("health, status and drain are never shed", () => {
  const { enter, shed, step, inFlight } = setUp({ maxInFlight: 0 }, { share: 1 })
  shed("any")
  assert.equal(step(HEALTH), undefined)
  const leave = enter("any", DRAIN)
  assert.equal(inFlight.calls, 1)
  leave()
  assert.deepEqual([inFlight.calls, inFlight.active], [0, 0])
})
