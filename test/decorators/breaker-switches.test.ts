/** Breakers worked by hand. */
import assert from "node:assert/strict"
import { test } from "node:test"
import { BreakerSwitches } from "../../src/domain/admin/switch-breakers.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { Breaker, type BreakerSettings } from "../../src/stores/decorators/breaker.ts"

const SETTINGS: BreakerSettings = {
  enabled: true,
  errorPercent: 50,
  volume: 20,
  windowMs: 600_000,
  probeMinMs: 600_000,
  probeMaxMs: 600_000,
  probeTimeoutMs: 600_000,
  slowMs: 0,
}

const scope = systemScope()

function setUp(probe: () => Promise<void> = () => new Promise(() => {})) {
  const make = (store: string, operationClass: "read" | "write") =>
    new Breaker({ store, operationClass, settings: SETTINGS, probe })
  const breakers = [make("events", "read"), make("events", "write"), make("memory", "read")] as const
  const switches = new BreakerSwitches(breakers)
  const states = () => switches.list().map(({ state }) => state)
  const close = () => {
    for (const breaker of breakers) breaker.stop()
  }
  return { breakers, switches, states, close }
}

const withId = (requestId: string, body: number): CallScope => ({
  ...scope,
  idempotency: { method: "TripBreaker", requestId, bodyHash: Uint8Array.of(body) },
})

const both = { store: "events", operationClass: undefined }

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

test("tripped, a store's breakers refuse until they are reset; others pass", { timeout: 30_000 }, () => {
  const { breakers, switches, states, close } = setUp()
  const answer = switches.trip(scope, both, undefined)
  assert.deepEqual(
    answer.map(({ state, tripped, nextProbeAtMs }) => ({ state, tripped, nextProbeAtMs })),
    Array(2).fill({ state: "open", tripped: true, nextProbeAtMs: undefined }),
  )
  assert.deepEqual(states(), ["open", "open", "closed"])
  assert.throws(
    () => breakers[0].admit(),
    (error: DomainError) => error.reason === "STORE_UNAVAILABLE" && error.retryDelayMs === 1_000,
  )
  breakers[2].admit()
  switches.reset(scope, { store: "events", operationClass: "write" })
  assert.deepEqual(states(), ["open", "closed", "closed"])
  switches.reset(scope, both)
  breakers[0].admit()
  assert.equal(switches.list()[0]?.tripped, false)
  close()
})

test("after its duration the store is probed, and only an answer closes the breaker", async () => {
  let healthy = false
  let probes = 0
  const { switches, states, close } = setUp(() => {
    probes += 1
    return healthy ? Promise.resolve() : Promise.reject(new Error("down"))
  })
  switches.trip(scope, { store: "memory", operationClass: "read" }, 5)
  assert.notEqual(switches.list()[2]?.nextProbeAtMs, undefined)
  await until(() => probes === 1 && states()[2] === "open")
  assert.equal(switches.list()[2]?.tripped, false, "from here on it is open because the store is sick")
  healthy = true
  switches.trip(scope, { store: "memory", operationClass: "read" }, 5)
  await until(() => states()[2] === "closed")
  close()
})

test("an operator's word outlasts a probe that was under way", async () => {
  const answers: (() => void)[] = []
  const { switches, states, close } = setUp(() => new Promise((resolve) => answers.push(resolve)))
  const memory = { store: "memory", operationClass: undefined }
  switches.trip(scope, memory, 1)
  await until(() => answers.length === 1)
  assert.equal(states()[2], "half_open")
  switches.trip(scope, memory, undefined)
  answers[0]?.()
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(states()[2], "open")
  close()
})

test("resetting forgets failures, also of a breaker that is closed", async () => {
  const { breakers, switches, close } = setUp()
  for (let i = 0; i < 19; i++) breakers[0].report("sick")
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(switches.list()[0]?.failures, 19)
  switches.reset(scope, both)
  breakers[0].report("sick")
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(switches.list()[0]?.state, "closed")
  assert.equal(switches.list()[0]?.failures, 1)
  close()
})

test("a repeated request_id answers the first answer and changes nothing; another body is refused", () => {
  const { switches, states, close } = setUp()
  const first = switches.trip(withId("a", 1), both, undefined)
  switches.reset(scope, both)
  assert.deepEqual(switches.trip(withId("a", 1), both, undefined), first)
  assert.deepEqual(states(), ["closed", "closed", "closed"])
  assert.throws(() => switches.trip(withId("a", 2), both, undefined), { reason: "REQUEST_ID_REUSED" })
  close()
})

test("a store without breakers is not found", () => {
  const { switches, close } = setUp()
  assert.throws(() => switches.trip(scope, { store: "cache", operationClass: undefined }, 1), {
    reason: "NOT_FOUND",
  })
  assert.throws(() => switches.reset(scope, { store: "memory", operationClass: "write" }), DomainError)
  close()
})
