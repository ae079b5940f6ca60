/**
 * What the decorators around a store cost, in CPU time of this process: a method that answers at once with and without them, one
 * that fails while the breaker is open, and one that fails while it is still closed. Run: node bench/decorators.ts
 */
import { DomainError } from "../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../src/domain/kernel/scope.ts"
import { Breaker, type BreakerSettings } from "../src/stores/decorators/breaker.ts"
import { Bulkhead } from "../src/stores/decorators/bulkhead.ts"
import { chain } from "../src/stores/decorators/chain.ts"
import { RetryBudget } from "../src/stores/decorators/retry-budget.ts"
import { wrapPort } from "../src/stores/decorators/wrap.ts"
import { startTelemetry } from "../src/telemetry/index.ts"

const CALLS = Number(process.env.KEELPLANE_BENCH_CALLS ?? 20_000)
const ROUNDS = 5

const BREAKER: BreakerSettings = {
  enabled: true,
  errorPercent: 50,
  volume: 20,
  windowMs: 10_000,
  probeMinMs: 600_000,
  probeMaxMs: 600_000,
  probeTimeoutMs: 2_000,
  slowMs: 1_000,
}

class Port {
  fails = false

  async read(scope: CallScope): Promise<number> {
    if (this.fails) throw new DomainError("STORE_UNAVAILABLE", "down")
    return scope.tenant.length
  }
}

const telemetry = await startTelemetry({
  level: "silent",
  format: "json",
  otlpEndpoint: undefined,
  sampleRatio: 0,
  version: "bench",
})

function decorated(settings: Partial<BreakerSettings> = {}) {
  const breaker = (operationClass: "read" | "write") =>
    new Breaker({
      store: "memory",
      operationClass,
      settings: { ...BREAKER, ...settings },
      probe: () => Promise.reject(new Error("down")),
    })
  const bulkhead = (operationClass: "read" | "write") =>
    new Bulkhead({
      store: "memory",
      operationClass,
      settings: { concurrency: 256, queue: 1_024, waitMs: 2_000 },
    })
  const breakers = { read: breaker("read"), write: breaker("write") }
  const port = new Port()
  const decorate = chain({
    store: "memory",
    port: "bench",
    observer: telemetry.stores,
    faults: undefined,
    protection: {
      isOpen: () => true,
      retry: { attempts: 3, baseMs: 20, maxMs: 250 },
      budget: new RetryBudget("memory", { tokens: 2, perSuccess: 0.001 }),
      breakers,
      slowMs: BREAKER.slowMs,
      bulkheads: { read: bulkhead("read"), write: bulkhead("write") },
    },
  })
  return { port, breakers, wrapped: wrapPort(port, { read: "read" }, decorate) }
}

/** Microseconds of user and system time per call, the best of some rounds. */
async function cost(read: (scope: CallScope) => Promise<unknown>, calls = CALLS): Promise<number> {
  // The deadline that a call without one gets at the edge.
  const scope = () => ({ ...systemScope(), deadlineMs: Date.now() + 30_000 })
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round <= ROUNDS; round++) {
    const before = process.cpuUsage()
    for (let call = 0; call < calls; call++) await read(scope()).catch(() => {})
    const { user, system } = process.cpuUsage(before)
    // The first round is for the compiler.
    if (round > 0) best = Math.min(best, (user + system) / calls)
  }
  return best
}

const bare = new Port()
const healthy = decorated()
// So much volume that it counts each failure and never opens.
const failing = decorated({ volume: Number.MAX_SAFE_INTEGER })
failing.port.fails = true
const open = decorated()
open.breakers.read.trip(undefined)

const floor = await cost((scope) => bare.read(scope))
const rows: readonly (readonly [string, number, string])[] = [
  ["an answer, without decorators", floor, ""],
  ["an answer, with all of them", await cost((scope) => healthy.wrapped.read(scope)), "below 15"],
  ["a refusal by an open breaker", await cost((scope) => open.wrapped.read(scope)), "below 1000"],
  ["a failure of the store", await cost((scope) => failing.wrapped.read(scope)), "below 1000"],
]
console.log(`CPU per call in microseconds, best of ${ROUNDS} rounds of ${CALLS} calls`)
for (const [name, micros, wanted] of rows) {
  console.log(`${name.padEnd(34)} ${micros.toFixed(2).padStart(8)}  ${wanted}`)
}
console.log(`decorators alone: ${((rows[1]?.[1] ?? Number.NaN) - floor).toFixed(2)} us per call`)
for (const { breakers } of [healthy, failing, open]) {
  breakers.read.stop()
  breakers.write.stop()
}
await telemetry.stop()
