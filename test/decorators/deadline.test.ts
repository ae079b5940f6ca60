import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { test } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { deadline } from "../../src/stores/decorators/deadline.ts"
import { judge } from "../../src/stores/decorators/guard.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const within = (ms: number): CallScope => ({ ...systemScope(DEFAULT_TENANT), deadlineMs: Date.now() + ms })

function setUp(answer: () => unknown) {
  let calls = 0
  const port = {
    read: (_scope: CallScope) => {
      calls += 1
      return answer()
    },
    write: (_scope: CallScope) => {
      calls += 1
      return answer()
    },
  }
  const wrapped = wrapPort(port, { read: "read", write: "write" }, deadline("events"))
  return { wrapped, calls: () => calls }
}

const hang = () => new Promise(() => {})

test("a read on a store that hangs ends at the deadline", async () => {
  const { wrapped } = setUp(hang)
  await assert.rejects(wrapped.read(within(5)) as Promise<unknown>, { reason: "DEADLINE_EXCEEDED" })
})

test("a write on a store that hangs has an unknown outcome", async () => {
  const { wrapped } = setUp(hang)
  await assert.rejects(wrapped.write(within(5)) as Promise<unknown>, {
    reason: "OUTCOME_UNKNOWN",
    metadata: { store: "events" },
  })
})

test("past its deadline a call never reaches the store", async () => {
  const { wrapped, calls } = setUp(hang)
  await assert.rejects(wrapped.write(within(-1)) as Promise<unknown>, { reason: "DEADLINE_EXCEEDED" })
  assert.equal(calls(), 0)
})

test("a failure after the deadline harms nobody", async () => {
  const late = Promise.withResolvers<never>()
  const { wrapped } = setUp(() => late.promise)
  await assert.rejects(wrapped.read(within(5)) as Promise<unknown>, { reason: "DEADLINE_EXCEEDED" })
  late.reject(new Error("too late"))
  await new Promise((resolve) => setImmediate(resolve))
})

test("answers and failures in time come through, at once where they are at once", async () => {
  assert.equal(setUp(() => 7).wrapped.read(within(60_000)), 7)
  assert.equal(await setUp(() => Promise.resolve(7)).wrapped.read(within(60_000)), 7)
  const failure = new DomainError("NOT_FOUND", "x")
  const { wrapped } = setUp(() => Promise.reject(failure))
  await assert.rejects(wrapped.read(within(60_000)) as Promise<unknown>, failure)
})

test("a deadline of years does not overflow the timer", async () => {
  const { wrapped } = setUp(() => new Promise((resolve) => setTimeout(() => resolve("done"), 20)))
  assert.equal(await wrapped.read(within(100 * 365 * 86_400_000)), "done")
})

test("only a store that had the call for long is blamed for a deadline", async () => {
  const { wrapped } = setUp(hang)
  const error = await (wrapped.write(within(5)) as Promise<unknown>).catch((reason: unknown) => reason)
  assert.equal(judge(error, 1_000), "nothing")
  assert.equal(judge(error, 1), "sick")
})

test("the work is told that it may end: by the deadline, and by the caller before it", async () => {
  const signals: AbortSignal[] = []
  const port = {
    read: (scope: CallScope) => {
      signals.push(scope.signal)
      return hang()
    },
  }
  const wrapped = wrapPort(port, { read: "read" }, deadline("events"))
  await assert.rejects(wrapped.read(within(5)), { reason: "DEADLINE_EXCEEDED" })
  assert.equal(signals[0]?.aborted, true)
  const caller = new AbortController()
  void wrapped.read({ ...within(2_000), signal: caller.signal }).catch(() => {})
  assert.equal(signals[1]?.aborted, false)
  caller.abort(new DomainError("CANCELLED", "x"))
  assert.equal((signals[1]?.reason as DomainError | undefined)?.reason, "CANCELLED")
})

test("a caller's signal that lives for long collects no listeners", async () => {
  const caller = new AbortController()
  const port = {
    read: async (scope: CallScope) => void scope.signal.aborted,
    fail: (scope: CallScope) => {
      if (!scope.signal.aborted) throw new Error("at once")
    },
  }
  const wrapped = wrapPort(port, { read: "read", fail: "read" }, deadline("events"))
  const scope = { ...within(60_000), signal: caller.signal }
  for (let i = 0; i < 20; i++) {
    await wrapped.read(scope)
    assert.throws(() => wrapped.fail(scope), /at once/)
  }
  assert.equal(getEventListeners(caller.signal, "abort").length, 0)
})
