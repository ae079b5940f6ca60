/** The decorators together, in the order in which the daemon puts them around a store. */
import assert from "node:assert/strict"
import { test } from "node:test"
import type { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { Breaker } from "../../src/stores/decorators/breaker.ts"
import { Bulkhead } from "../../src/stores/decorators/bulkhead.ts"
import { chain } from "../../src/stores/decorators/chain.ts"
import { parseFaultRules } from "../../src/stores/decorators/fault-rules.ts"
import { FaultPlan } from "../../src/stores/decorators/faults.ts"
import { RetryBudget } from "../../src/stores/decorators/retry-budget.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const scope = systemScope(DEFAULT_TENANT)
const within = (ms: number): CallScope => ({ ...scope, deadlineMs: Date.now() + ms })
const named = (call: CallScope): CallScope => ({
  ...call,
  idempotency: { method: "M", requestId: "r", bodyHash: Uint8Array.of(1) },
})

function setUp(rules: string, { isOpen = true, tokens = 1_000 } = {}) {
  const faults = new FaultPlan({ seed: 1, rules: parseFaultRules(rules) })
  const observed: (string | undefined)[] = []
  const settings = {
    enabled: true,
    errorPercent: 50,
    volume: 20,
    windowMs: 600_000,
    probeMinMs: 600_000,
    probeMaxMs: 600_000,
    probeTimeoutMs: 1_000,
    slowMs: 0,
  }
  const breaker = (operationClass: "read" | "write") =>
    new Breaker({ store: "events", operationClass, settings, probe: () => new Promise(() => {}) })
  const bulkhead = (operationClass: "read" | "write") =>
    new Bulkhead({ store: "events", operationClass, settings: { concurrency: 4, queue: 4, waitMs: 60_000 } })
  const breakers = { read: breaker("read"), write: breaker("write") }
  const bulkheads = { read: bulkhead("read"), write: bulkhead("write") }
  const budget = new RetryBudget("events", { tokens, perSuccess: 0.1 })
  let done = 0
  const port = {
    read: async (_scope: CallScope) => "read",
    write: async (_scope: CallScope) => `write ${++done}`,
  }
  const wrapped = wrapPort(
    port,
    { read: "read", write: "write" },
    chain({
      store: "events",
      port: "log",
      observer: {
        operation: () => ({
          start: () => undefined,
          end: (_ms, reason) => {
            observed.push(reason)
          },
        }),
      },
      faults,
      protection: {
        isOpen: () => isOpen,
        retry: { attempts: 3, baseMs: 1, maxMs: 2 },
        budget,
        breakers,
        slowMs: settings.slowMs,
        bulkheads,
      },
    }),
  )
  const close = () => {
    breakers.read.stop()
    breakers.write.stop()
  }
  return { wrapped, faults, observed, breakers, bulkheads, budget, close, done: () => done }
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    (value) => value,
    (error: DomainError) => error.reason,
  )

test("a call that failed on its way is repeated, seen once, and counted by the breaker twice", async () => {
  const { wrapped, observed, breakers, faults, close } = setUp("*/*/read nth=1 before")
  assert.equal(await wrapped.read(within(60_000)), "read")
  assert.deepEqual(observed, [undefined])
  assert.equal(faults.calls, 2)
  const { successes, failures } = breakers.read.state()
  assert.deepEqual([successes, failures], [1, 1])
  close()
})

test("an answer that was lost is fetched again under a request_id, and owned up to without one", async () => {
  const { wrapped, done, close } = setUp("*/*/write nth=1 after; */*/write nth=1 after")
  assert.equal(await outcome(wrapped.write(within(60_000))), "OUTCOME_UNKNOWN")
  assert.equal(done(), 1)
  assert.equal(await outcome(wrapped.write(named(within(60_000)))), "write 3")
  close()
})

test("an outage opens the breaker, and from then on nothing is repeated or asked", async () => {
  const { wrapped, breakers, faults, budget, observed, close } = setUp("*/*/* before")
  while (breakers.read.closed) await outcome(wrapped.read(within(60_000)))
  const { calls } = faults
  const { retries } = budget.state()
  assert.ok(retries > 0)
  for (let i = 0; i < 50; i++) assert.equal(await outcome(wrapped.read(within(60_000))), "STORE_UNAVAILABLE")
  assert.equal(faults.calls, calls)
  assert.equal(budget.state().retries, retries)
  assert.ok(observed.every((reason) => reason === "STORE_UNAVAILABLE"))
  assert.equal(await outcome(wrapped.write(within(60_000))), "STORE_UNAVAILABLE", "writes fail by themselves")
  close()
})

test("a store that hangs ends calls in time, opens the breaker, and gets its slots back when they were told", async () => {
  const { wrapped, breakers, bulkheads, close } = setUp("*/*/* hang")
  const calls = Array.from({ length: 30 }, () => outcome(wrapped.write(within(1_000))))
  const reasons = new Set(await Promise.all(calls))
  // Four were with the store, four in line; the rest was shed.
  assert.deepEqual(reasons, new Set(["OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "OVERLOADED"]))
  assert.equal(bulkheads.write.state().shed, 22)
  while (bulkheads.write.state().inFlight > 0) await new Promise((resolve) => setImmediate(resolve))
  while (breakers.write.closed) await outcome(wrapped.write(within(100)))
  close()
})

test("calls in line whose deadline is that of those before them were never with the store, however late the timers are", async () => {
  const { wrapped, faults, close } = setUp("*/*/* hang")
  const calls = Array.from({ length: 8 }, () => outcome(wrapped.write(within(50))))
  await new Promise((resolve) => setImmediate(resolve))
  const end = performance.now() + 150
  while (performance.now() < end);
  const reasons = await Promise.all(calls)
  assert.equal(reasons.filter((reason) => reason === "OUTCOME_UNKNOWN").length, 4)
  assert.equal(reasons.filter((reason) => reason === "DEADLINE_EXCEEDED").length, 4)
  assert.equal(faults.calls, 4)
  close()
})

test("a store that never answered is no outage: it costs neither tokens nor the breaker anything", async () => {
  const { wrapped, breakers, budget, faults, close } = setUp("", { isOpen: false })
  for (let i = 0; i < 50; i++) assert.equal(await outcome(wrapped.read(within(60_000))), "STORE_UNAVAILABLE")
  assert.equal(faults.calls, 0)
  assert.equal(breakers.read.state().state, "closed")
  assert.equal(budget.state().tokens, 1_000)
  close()
})
