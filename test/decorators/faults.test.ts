import assert from "node:assert/strict"
import { test } from "node:test"
import type { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { deadline } from "../../src/stores/decorators/deadline.ts"
import { parseFaultRules } from "../../src/stores/decorators/fault-rules.ts"
import { type FaultEvent, FaultPlan } from "../../src/stores/decorators/faults.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"

const scope = systemScope(DEFAULT_TENANT)

function setUp(rules: string, seed = 1) {
  const events: FaultEvent[] = []
  const plan = new FaultPlan({ seed, rules: parseFaultRules(rules), onFault: (event) => events.push(event) })
  const done: string[] = []
  const port = {
    read: async (_scope: CallScope) => "read",
    write: async (_scope: CallScope, name = "x") => {
      done.push(name)
      return name
    },
    async *watch(_scope: CallScope) {
      yield "item"
    },
  }
  const operations = { read: "read", write: "write", watch: "stream" } as const
  const faulty = wrapPort(port, operations, plan.decorate("events", "log"))
  return { faulty, timed: wrapPort(faulty, operations, deadline("events")), plan, events, done }
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    (value) => value,
    (error: DomainError) => error.reason,
  )

test("before: nothing is done; after: it is done and the answer is lost", async () => {
  const { faulty, done, events } = setUp("events/log/write nth=1 before; events/log/write nth=1 after")
  assert.equal(await outcome(faulty.write(scope, "a")), "STORE_UNAVAILABLE")
  assert.deepEqual(done, [])
  assert.equal(await outcome(faulty.write(scope, "b")), "OUTCOME_UNKNOWN")
  assert.deepEqual(done, ["b"])
  assert.equal(await outcome(faulty.write(scope, "c")), "c")
  assert.deepEqual(events, [
    { operation: "events/log/write", call: 1, fault: "before" },
    { operation: "events/log/write", call: 2, fault: "after" },
  ])
})

test("rules match by name, count what they match, and end after their times", async () => {
  const other = setUp("memory/*/* before; */*/read before")
  assert.equal(await outcome(other.faulty.write(scope)), "x")
  assert.equal(await outcome(other.faulty.read(scope)), "STORE_UNAVAILABLE")
  await assert.rejects(setUp("*/*/watch before").faulty.watch(scope).next(), { reason: "STORE_UNAVAILABLE" })
  const { faulty } = setUp("events/*/* every=2 times=2 before")
  const seen: unknown[] = []
  for (let i = 0; i < 8; i++) seen.push(await outcome(faulty.read(scope)))
  const away = "STORE_UNAVAILABLE"
  assert.deepEqual(seen, ["read", away, "read", away, "read", "read", "read", "read"])
})

test("the n-th call to any store fails, for every n", async () => {
  const { faulty, plan } = setUp("")
  const life = async () => {
    await faulty.read(scope)
    await faulty.write(scope)
    await Array.fromAsync(faulty.watch(scope))
  }
  plan.arm([])
  await life()
  const calls = plan.calls
  assert.equal(calls, 3)
  for (let n = 1; n <= calls; n++) {
    plan.failNth(n)
    assert.equal(await outcome(life()), "STORE_UNAVAILABLE")
    assert.equal(plan.calls, n)
  }
  plan.disarm()
  await life()
})

test("the same seed gives the same faults, another seed others", async () => {
  const run = async (seed: number) => {
    const { faulty, events } = setUp("*/*/* p=0.3 before", seed)
    for (let i = 0; i < 200; i++) await outcome(faulty.read(scope))
    return events.map(({ call }) => call)
  }
  const first = await run(7)
  assert.deepEqual(await run(7), first)
  assert.notDeepEqual(await run(8), first)
  assert.ok(first.length > 30 && first.length < 90, `${first.length} of 200 at 0.3`)
})

test("a hang ends with the call, a delay passes", async () => {
  const { timed, plan, done } = setUp("*/*/* hang")
  const soon = () => ({ ...scope, deadlineMs: Date.now() + 5 })
  assert.equal(await outcome(timed.read(soon())), "DEADLINE_EXCEEDED")
  assert.equal(await outcome(timed.write(soon())), "OUTCOME_UNKNOWN")
  assert.deepEqual(done, [])
  plan.arm(parseFaultRules("*/*/* delay=5"))
  const started = performance.now()
  assert.equal(await timed.write({ ...scope, deadlineMs: Date.now() + 30_000 }, "slow"), "slow")
  assert.ok(performance.now() - started >= 4)
})

test("rules that cannot be read are refused with what is wrong", () => {
  for (const [text, wrong] of [
    ["events before", /does not take "events"/],
    ["events/log before", /needs <store>\/<port>\/<method>/],
    ["*/*/* sometimes", /must end with before, after, hang or delay/],
    ["*/*/* p=2 before", /does not take "p=2"/],
    ["*/*/* nth=0 before", /does not take "nth=0"/],
    ["*/*/* delay=x", /must end with/],
    ["*/*/* now=1 hang", /does not take "now=1"/],
  ] as const) {
    assert.throws(() => parseFaultRules(text), wrong, text)
  }
  assert.equal(parseFaultRules(" call=3 before ;; */*/* p=0.5 hang; ").length, 2)
})
