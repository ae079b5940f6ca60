import assert from "node:assert/strict"
import { test } from "node:test"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { retry } from "../../src/stores/decorators/retry.ts"
import { RetryBudget } from "../../src/stores/decorators/retry-budget.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const scope = systemScope(DEFAULT_TENANT)
const named: CallScope = {
  ...scope,
  idempotency: { method: "M", requestId: "r", bodyHash: Uint8Array.of(1) },
}

const error = (reason: Reason, retryDelayMs?: number) =>
  new DomainError(reason, reason, retryDelayMs === undefined ? {} : { retryDelayMs })

interface Options {
  readonly attempts?: number
  readonly passing?: () => boolean
  readonly tokens?: number
}

/** A port that fails with `failures` in turn, then answers. */
function setUp(failures: readonly unknown[], options: Options = {}) {
  const left = [...failures]
  let calls = 0
  const answer = async (_scope: CallScope): Promise<string> => {
    calls += 1
    if (left.length > 0) throw left.shift()
    return "ok"
  }
  const port = {
    read: answer,
    write: answer,
    sweep: answer,
    async *watch(_scope: CallScope) {
      calls += 1
      const failure = left.shift()
      if (failure !== undefined && failure !== "late") throw failure
      yield "a"
      if (failure === "late") throw error("STORE_UNAVAILABLE")
      yield "b"
    },
  }
  const budget = new RetryBudget("events", { tokens: options.tokens ?? 100, perSuccess: 0.1 })
  const wrapped = wrapPort(
    port,
    { read: "read", write: "write", sweep: "repeatable", watch: "stream" },
    retry({
      settings: { attempts: options.attempts ?? 3, baseMs: 1, maxMs: 4 },
      budget,
      passing: options.passing ?? (() => true),
      random: () => 0,
    }),
  )
  return { wrapped, budget, calls: () => calls }
}

test("reads, writes with a request_id and repeatable writes are sent again", async () => {
  for (const reason of ["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"] as const) {
    for (const method of ["read", "write", "sweep"] as const) {
      const { wrapped, budget, calls } = setUp([error(reason), error(reason)])
      assert.equal(await wrapped[method](method === "write" ? named : scope), "ok", method)
      assert.equal(calls(), 3)
      assert.equal(budget.state().retries, 2)
    }
  }
})

test("a write without request_id never is, not even when it was not applied", async () => {
  for (const reason of ["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"] as const) {
    const { wrapped, calls } = setUp([error(reason)])
    await assert.rejects(wrapped.write(scope), { reason })
    assert.equal(calls(), 1)
  }
})

test("nothing else that goes wrong is repeated", async () => {
  const failures = [
    error("NOT_FOUND"),
    error("REVISION_MISMATCH"),
    error("OVERLOADED"),
    error("DEADLINE_EXCEEDED"),
    error("CANCELLED"),
    error("STORE_AUTH"),
    new TypeError("a defect"),
  ]
  for (const failure of failures) {
    const { wrapped, calls } = setUp([failure])
    await assert.rejects(wrapped.read(scope), failure)
    assert.equal(calls(), 1)
  }
})

test("attempts are counted, the first among them", async () => {
  const many = Array.from({ length: 9 }, () => error("STORE_UNAVAILABLE"))
  const three = setUp(many)
  await assert.rejects(three.wrapped.read(scope), { reason: "STORE_UNAVAILABLE" })
  assert.equal(three.calls(), 3)
  const one = setUp(many, { attempts: 1 })
  await assert.rejects(one.wrapped.read(scope), { reason: "STORE_UNAVAILABLE" })
  assert.equal(one.calls(), 1)
})

test("once a write may have been applied, no later attempt takes that back", async () => {
  for (const second of [
    "STORE_UNAVAILABLE",
    "OVERLOADED",
    "DEADLINE_EXCEEDED",
    "REQUEST_IN_PROGRESS",
    "CANCELLED",
  ] as const) {
    const { wrapped } = setUp([error("OUTCOME_UNKNOWN"), error(second), error(second)])
    await assert.rejects(wrapped.write(named), { reason: "OUTCOME_UNKNOWN" }, second)
  }
  const known = setUp([error("OUTCOME_UNKNOWN"), error("REVISION_MISMATCH")])
  await assert.rejects(known.wrapped.write(named), { reason: "REVISION_MISMATCH" })
})

test("nothing is repeated past the deadline, after a cancel, or while the breaker is open", async () => {
  const slow = setUp([error("STORE_UNAVAILABLE", 60_000)])
  await assert.rejects(slow.wrapped.read({ ...scope, deadlineMs: Date.now() + 1_000 }), {
    reason: "STORE_UNAVAILABLE",
  })
  assert.equal(slow.calls(), 1)
  const caller = new AbortController()
  const cancelled = setUp([error("STORE_UNAVAILABLE", 60_000)])
  const call = cancelled.wrapped.read({ ...scope, signal: caller.signal })
  await new Promise((resolve) => setImmediate(resolve))
  caller.abort()
  await assert.rejects(call, { reason: "STORE_UNAVAILABLE" })
  assert.equal(cancelled.calls(), 1)
  const open = setUp([error("STORE_UNAVAILABLE")], { passing: () => false })
  await assert.rejects(open.wrapped.read(scope), { reason: "STORE_UNAVAILABLE" })
  assert.equal(open.calls(), 1)
  assert.equal(open.budget.state().tokens, 100, "a refusal costs the budget nothing")
})

test("the budget ends an outage's repetitions at its half, and successes fill it again", async () => {
  const failures = Array.from({ length: 1_000 }, () => error("STORE_UNAVAILABLE"))
  const { wrapped, budget, calls } = setUp(failures, { tokens: 20 })
  let failed = 0
  while (failed < 300) {
    await wrapped.read(scope).catch(() => {})
    failed += 1
  }
  const { retries, refused, tokens } = budget.state()
  assert.equal(calls() - failed, retries)
  assert.ok(retries < 10, `${retries} repetitions`)
  assert.ok(refused > 280)
  assert.equal(tokens, 0)
  const healed = new RetryBudget("events", { tokens: 10, perSuccess: 0.5 })
  for (let i = 0; i < 10; i++) healed.failed()
  for (let i = 0; i < 12; i++) healed.succeeded()
  assert.equal(healed.failed(), false, "at half it still stops")
  for (let i = 0; i < 4; i++) healed.succeeded()
  assert.equal(healed.failed(), true)
})

test("a stream begins again only where it has given nothing", async () => {
  const early = setUp([error("STORE_UNAVAILABLE")])
  assert.deepEqual(await Array.fromAsync(early.wrapped.watch(scope)), ["a", "b"])
  const late = setUp(["late"])
  const seen: string[] = []
  await assert.rejects(
    (async () => {
      for await (const item of late.wrapped.watch(scope)) seen.push(item)
    })(),
    { reason: "STORE_UNAVAILABLE" },
  )
  assert.deepEqual(seen, ["a"])
  assert.equal(late.calls(), 1)
})
