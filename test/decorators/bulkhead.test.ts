import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { test } from "node:test"
import { setImmediate as turn } from "node:timers/promises"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, parseTenantId, systemScope } from "../../src/domain/kernel/scope.ts"
import { Bulkhead, type BulkheadSettings, bulkhead } from "../../src/stores/decorators/bulkhead.ts"
import { deadline } from "../../src/stores/decorators/deadline.ts"
import { judge } from "../../src/stores/decorators/guard.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const scope = systemScope(DEFAULT_TENANT)
const within = (ms: number): CallScope => ({ ...scope, deadlineMs: Date.now() + ms })

/** A port whose calls end when the test says so. */
function setUp(settings: Partial<BulkheadSettings> = {}) {
  const pending: PromiseWithResolvers<string>[] = []
  const asked: string[] = []
  const port = {
    read: (_scope: CallScope, name: string): Promise<string> => {
      const call = Promise.withResolvers<string>()
      pending.push(call)
      asked.push(name)
      return call.promise
    },
    write: (_scope: CallScope, name: string): Promise<string> => port.read(_scope, name),
    now: (_scope: CallScope, fails: boolean): string => {
      if (fails) throw new Error("at once")
      return "at once"
    },
    async *watch(_scope: CallScope) {
      yield* ["a", "b"]
    },
  }
  const all = { concurrency: 2, queue: 2, waitMs: 60_000, ...settings }
  const make = (operationClass: "read" | "write") =>
    new Bulkhead({ store: "events", operationClass, settings: all, random: () => 0 })
  const bulkheads = { read: make("read"), write: make("write") }
  const operations = { read: "read", write: "write", now: "read", watch: "stream" } as const
  const held = wrapPort(port, operations, bulkhead(bulkheads))
  const timed = wrapPort(held, operations, deadline("events"))
  return { held, timed, pending, asked, bulkheads }
}

const reasonOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "answered",
    (error: DomainError) => error.reason,
  )

const as = (tenant: string): CallScope => systemScope(parseTenantId(tenant))

test("tenants take turns, however many of one of them wait", async () => {
  const { held, pending, asked } = setUp({ concurrency: 1, queue: 8 })
  const calls = ["a", "b", "c", "d"].map((name) => held.read(as("greedy"), name))
  calls.push(held.read(as("modest"), "m"), held.read(as("third"), "t"))
  for (let ended = 0; ended < calls.length; ended++) {
    pending[ended]?.resolve("done")
    await turn()
  }
  await Promise.all(calls)
  assert.deepEqual(asked, ["a", "b", "m", "t", "c", "d"])
})

test("whoever has most of a full line makes room for those who have less, and is shed himself", async () => {
  const { held, pending, asked, bulkheads } = setUp({ concurrency: 1, queue: 4 })
  const greedy = ["a", "b", "c", "d", "e"].map((name) => reasonOf(held.read(as("greedy"), name)))
  const modest = ["m", "n"].map((name) => reasonOf(held.read(as("modest"), name)))
  assert.equal(bulkheads.read.state().queued, 4)
  // Both have their share of the line now.
  assert.equal(await reasonOf(held.read(as("modest"), "o")), "OVERLOADED")
  assert.equal(await reasonOf(held.read(as("greedy"), "f")), "OVERLOADED")
  assert.deepEqual(await Promise.all(greedy.slice(3)), ["OVERLOADED", "OVERLOADED"])
  for (let ended = 0; ended < 5; ended++) {
    pending[ended]?.resolve("done")
    await turn()
  }
  assert.deepEqual(await Promise.all([...greedy.slice(0, 3), ...modest]), Array(5).fill("answered"))
  assert.deepEqual(asked, ["a", "b", "m", "c", "n"])
  assert.deepEqual(
    { ...bulkheads.read.state() },
    {
      store: "events",
      operationClass: "read",
      inFlight: 0,
      queued: 0,
      shed: 4,
      answered: 5,
    },
  )
})

test("calls beyond the slots wait in the order of their arrival; those beyond the line are shed", async () => {
  const { held, pending, asked, bulkheads } = setUp()
  const calls = ["a", "b", "c", "d"].map((name) => held.read(scope, name))
  assert.deepEqual(asked, ["a", "b"])
  await assert.rejects(held.read(scope, "e"), (error: DomainError) => {
    assert.equal(error.reason, "OVERLOADED")
    assert.deepEqual(error.metadata, { limit: "reads with the store events", value: "4" })
    assert.equal(error.retryDelayMs, 100)
    return true
  })
  const { inFlight, queued, shed } = bulkheads.read.state()
  assert.deepEqual({ inFlight, queued, shed }, { inFlight: 2, queued: 2, shed: 1 })
  pending[1]?.resolve("b")
  await calls[1]
  await turn()
  assert.deepEqual(asked, ["a", "b", "c"])
  pending[0]?.reject(new Error("failed"))
  await assert.rejects(calls[0] as Promise<string>)
  await turn()
  assert.deepEqual(asked, ["a", "b", "c", "d"])
  for (const call of pending) call.resolve("done")
  await Promise.all([calls[2], calls[3]])
  await turn()
  assert.equal(bulkheads.read.state().inFlight, 0)
})

test("reads and writes have slots of their own", async () => {
  const { held, asked } = setUp({ concurrency: 1, queue: 0 })
  void held.read(scope, "read")
  void held.write(scope, "write")
  assert.deepEqual(asked, ["read", "write"])
  assert.equal(await reasonOf(held.read(scope, "more")), "OVERLOADED")
})

test("a caller that gives up leaves its slot taken until the store's work has ended", async () => {
  const { timed, pending, bulkheads } = setUp({ concurrency: 1, queue: 0 })
  assert.equal(await reasonOf(timed.read(within(5), "hangs")), "DEADLINE_EXCEEDED")
  assert.equal(bulkheads.read.state().inFlight, 1)
  assert.equal(await reasonOf(timed.read(scope, "more")), "OVERLOADED")
  pending[0]?.resolve("late")
  await turn()
  assert.equal(bulkheads.read.state().inFlight, 0)
})

test("a wait ends with the call, and says that nothing was done", async () => {
  const { timed, asked, bulkheads } = setUp({ concurrency: 1 })
  void timed.write(scope, "first")
  const late = await timed.write(within(20), "late").catch((error: unknown) => error)
  assert.ok(late instanceof DomainError)
  assert.equal(late.reason, "DEADLINE_EXCEEDED", "a write that was never sent has no unknown outcome")
  assert.equal(judge(late, 0), "nothing")
  const caller = new AbortController()
  const cancelled = reasonOf(timed.write({ ...within(60_000), signal: caller.signal }, "cancelled"))
  assert.equal(bulkheads.write.state().queued, 1)
  caller.abort(new DomainError("CANCELLED", "the caller cancelled"))
  assert.equal(await cancelled, "CANCELLED")
  assert.equal(await reasonOf(timed.write({ ...scope, signal: caller.signal }, "dead")), "CANCELLED")
  assert.equal(bulkheads.write.state().queued, 0)
  assert.deepEqual(asked, ["first"])
})

test("nobody waits longer than the store's limit", async () => {
  const { held, bulkheads } = setUp({ concurrency: 1, waitMs: 5 })
  void held.read(scope, "first")
  assert.equal(await reasonOf(held.read(scope, "second")), "OVERLOADED")
  assert.deepEqual([bulkheads.read.state().queued, bulkheads.read.state().shed], [0, 1])
})

test("the store is blamed for the time it had the call, not for the time in line", async () => {
  const { timed, pending } = setUp({ concurrency: 1 })
  void timed.read(scope, "first")
  const second = timed.read(within(300), "second").catch((error: unknown) => error)
  await new Promise((resolve) => setTimeout(resolve, 200))
  pending[0]?.resolve("done")
  const error = await second
  assert.equal(judge(error, 290), "nothing")
  assert.equal(judge(error, 1), "sick")
})

test("what is answered at once gives its slot back at once, and streams take none", async () => {
  const { held, bulkheads } = setUp({ concurrency: 1 })
  assert.equal(held.now(scope, false), "at once")
  assert.throws(() => held.now(scope, true), /at once/)
  assert.equal(bulkheads.read.state().inFlight, 0)
  void held.read(scope, "first")
  assert.deepEqual(await Array.fromAsync(held.watch(scope)), ["a", "b"])
})

test("a thousand waits leave nothing behind", async () => {
  const { held, pending, bulkheads } = setUp({ concurrency: 1, queue: 1_000 })
  const caller = new AbortController()
  const calls = Array.from({ length: 1_000 }, (_, index) =>
    held.read({ ...scope, signal: caller.signal }, `${index}`),
  )
  for (let index = 0; index < calls.length; index++) {
    pending[index]?.resolve(`${index}`)
    assert.equal(await calls[index], `${index}`)
    await turn()
  }
  assert.equal(getEventListeners(caller.signal, "abort").length, 0)
  assert.deepEqual([bulkheads.read.state().inFlight, bulkheads.read.state().queued], [0, 0])
})
