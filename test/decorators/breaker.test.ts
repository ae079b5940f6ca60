import assert from "node:assert/strict"
import { test } from "node:test"
import { setImmediate as turn } from "node:timers/promises"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { Breaker, type BreakerSettings, type BreakerState } from "../../src/stores/decorators/breaker.ts"
import { guard, judge } from "../../src/stores/decorators/guard.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const SETTINGS: BreakerSettings = {
  enabled: true,
  errorPercent: 50,
  volume: 20,
  windowMs: 600_000,
  probeMinMs: 1,
  probeMaxMs: 4,
  probeTimeoutMs: 20,
  slowMs: 0,
}

const scope = systemScope(DEFAULT_TENANT)

/** A port whose next answers are set by the test. */
class Port {
  calls = 0
  next: () => Promise<string> = () => Promise.resolve("ok")

  read(_scope: CallScope): Promise<string> {
    this.calls += 1
    return this.next()
  }

  write(_scope: CallScope): Promise<string> {
    return this.read(_scope)
  }

  async *watch(_scope: CallScope): AsyncGenerator<string> {
    yield await this.next()
  }

  label(): string {
    return "label"
  }
}

const OPERATIONS = { read: "read", write: "write", watch: "stream", label: "plain" } as const

function setUp(probe: (signal: AbortSignal) => Promise<void>, settings: Partial<BreakerSettings> = {}) {
  const changes: BreakerState["state"][] = []
  const make = (operationClass: "read" | "write") =>
    new Breaker({
      store: "events",
      operationClass,
      settings: { ...SETTINGS, ...settings },
      probe,
      random: () => 0,
      onChange: ({ state }) => changes.push(state),
    })
  const breakers = { read: make("read"), write: make("write") }
  const port = new Port()
  const guarded = wrapPort(port, OPERATIONS, guard(breakers, SETTINGS.slowMs))
  const close = () => {
    breakers.read.stop()
    breakers.write.stop()
  }
  return { port, guarded, breakers, changes, close }
}

const failing = (reason: Reason) => () => Promise.reject(new DomainError(reason, "failed"))

/** Waits for a condition that timers bring about. */
async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000
  while (!condition()) {
    if (Date.now() > end) assert.fail("it never came about")
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

async function call(read: (scope: CallScope) => Promise<string>, times: number): Promise<void> {
  for (let i = 0; i < times; i++) await read(scope).catch(() => {})
  await turn()
}

/** For tests in which the store stays sick: the first probe is far away, so that no timer changes the state meanwhile. */
const UNPROBED = { probeMinMs: 600_000, probeMaxMs: 600_000 }

const never = () => new Promise<void>(() => {})

test("it opens after enough failures of the store, and refuses without asking the store", async () => {
  const { port, guarded, breakers, close } = setUp(never, UNPROBED)
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 19)
  assert.equal(breakers.read.state().state, "closed")
  await call(guarded.read, 1)
  assert.equal(breakers.read.state().state, "open")
  const asked = port.calls
  await assert.rejects(guarded.read(scope), (error: DomainError) => {
    assert.equal(error.reason, "STORE_UNAVAILABLE")
    assert.deepEqual(error.metadata, { store: "events", operation_class: "read" })
    assert.ok((error.retryDelayMs ?? 0) > 0)
    return true
  })
  assert.equal(port.calls, asked)
  assert.equal(breakers.read.state().rejections, 1)
  close()
})

test("reads and writes fail apart", async () => {
  const { port, guarded, breakers, close } = setUp(never, UNPROBED)
  port.next = failing("OUTCOME_UNKNOWN")
  await call(guarded.write, 20)
  assert.equal(breakers.write.state().state, "open")
  port.next = () => Promise.resolve("fine")
  assert.equal(await guarded.read(scope), "fine")
  close()
})

test("what callers did wrong, cancelled or lost a race for never opens it", async () => {
  const reasons: Reason[] = [
    "NOT_FOUND",
    "REVISION_MISMATCH",
    "INVALID_FIELD",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
  ]
  const { port, guarded, breakers, close } = setUp(never, UNPROBED)
  for (const reason of reasons) {
    port.next = failing(reason)
    await call(guarded.read, 40)
  }
  port.next = () => Promise.reject(new TypeError("a defect"))
  await call(guarded.read, 40)
  assert.equal(breakers.read.state().state, "closed")
  close()
})

test("cancelled calls do not dilute the failures of a sick store", async () => {
  const { port, guarded, breakers, close } = setUp(never, UNPROBED)
  port.next = failing("CANCELLED")
  await call(guarded.read, 500)
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  assert.equal(breakers.read.state().state, "open")
  close()
})

test("an answered probe closes it, and old failures are forgotten", async () => {
  let healthy = false
  const probe = () => (healthy ? Promise.resolve() : Promise.reject(new Error("down")))
  const { port, guarded, breakers, changes, close } = setUp(probe)
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  await until(() => changes.filter((state) => state === "half_open").length >= 3)
  assert.ok(!changes.includes("closed"))
  healthy = true
  await until(() => breakers.read.state().state === "closed")
  assert.equal(breakers.read.state().failures, 0)
  await call(guarded.read, 1)
  assert.equal(breakers.read.state().state, "closed", "one failure after the recovery is not an outage")
  close()
})

test("a probe that hangs is given up on and tried again", async () => {
  let probes = 0
  const { port, guarded, breakers, close } = setUp(() => {
    probes += 1
    return probes === 1 ? never() : Promise.resolve()
  })
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  await until(() => breakers.read.state().state === "closed")
  assert.equal(probes, 2)
  close()
})

test("it says that the store refuses the credentials once a probe was told so, and until they are taken", async () => {
  let answer: Reason | undefined = "STORE_AUTH"
  const probe = () => (answer === undefined ? Promise.resolve() : failing(answer)().then(() => undefined))
  const { port, guarded, breakers, close } = setUp(probe)
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  const refusedAs = (reason: Reason) =>
    until(() => {
      try {
        breakers.read.admit()
        return false
      } catch (error) {
        return error instanceof DomainError && error.reason === reason
      }
    })
  await refusedAs("STORE_AUTH")
  answer = "STORE_UNAVAILABLE"
  await refusedAs("STORE_UNAVAILABLE")
  answer = undefined
  await until(() => breakers.read.closed)
  close()
})

test("a call that was under way when it opened does not close it", async () => {
  const { port, guarded, breakers, close } = setUp(never, UNPROBED)
  const slow = Promise.withResolvers<string>()
  port.next = () => slow.promise
  const early = guarded.read(scope)
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  slow.resolve("late")
  assert.equal(await early, "late")
  await turn()
  assert.notEqual(breakers.read.state().state, "closed")
  close()
})

test("a stream is refused at its first item while the breaker is open", async () => {
  const { port, guarded, close } = setUp(never, UNPROBED)
  assert.deepEqual(await Array.fromAsync(guarded.watch(scope)), ["ok"])
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 20)
  port.next = () => Promise.resolve("ok")
  await assert.rejects(Array.fromAsync(guarded.watch(scope)), { reason: "STORE_UNAVAILABLE" })
  close()
})

test("switched off it never refuses", async () => {
  const { port, guarded, breakers, close } = setUp(never, { enabled: false })
  port.next = failing("STORE_UNAVAILABLE")
  await call(guarded.read, 100)
  assert.equal(breakers.read.state().state, "closed")
  close()
})

test("methods that are no operations are passed on", () => {
  const { guarded, close } = setUp(never, UNPROBED)
  assert.equal(guarded.label(), "label")
  close()
})

test("every reason has a verdict that fits it", () => {
  const sick: Reason[] = ["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN", "STORE_AUTH"]
  for (const reason of sick) assert.equal(judge(new DomainError(reason, "x"), 0), "sick", reason)
  assert.equal(judge(new DomainError("STORE_FULL", "x"), 0), "healthy")
  assert.equal(judge(new DomainError("ALREADY_EXISTS", "x"), 0), "healthy")
  assert.equal(judge(new DomainError("OVERLOADED", "x"), 0), "nothing")
  assert.equal(judge(new Error("x"), 0), "nothing")
})
