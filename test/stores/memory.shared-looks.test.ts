/** Looks at collections that calls share. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { setTimeout as pause } from "node:timers/promises"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, parseTenantId, systemScope } from "../../src/domain/kernel/scope.ts"
import { SharedLooks } from "../../src/stores/memory/shared-looks.ts"
import { rejects } from "../contract/memory-support.ts"
import { until } from "../support/until.ts"

interface Begun {
  readonly scope: CallScope
  readonly id: string
  end(value: string): void
  fail(error: Error): void
}

/** Looks that end when the test says so. */
function looks() {
  const begun: Begun[] = []
  const shared = new SharedLooks<string>((scope, id) => {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    begun.push({ scope, id, end: resolve, fail: reject })
    return promise
  })
  const nth = async (n: number): Promise<Begun> => {
    await until(`look ${n} has begun`, async () => begun.length > n)
    const look = begun[n]
    assert.ok(look !== undefined)
    return look
  }
  return { begun, shared, nth }
}

const tenant = parseTenantId("acme")
assert.ok(tenant !== undefined)
const other = parseTenantId("other")
assert.ok(other !== undefined)
const scope = systemScope(tenant)

describe("shared looks", () => {
  it("begin after those came who share them, and not before the one under way has ended", async () => {
    const { begun, shared, nth } = looks()
    const first = shared.take(scope, "c")
    const rest = [shared.take(scope, "c"), shared.take({ ...scope, deadlineMs: Date.now() + 60_000 }, "c")]
    assert.equal(begun.length, 1)
    begun[0]?.end("old")
    assert.equal(await first, "old")
    const late = shared.take(scope, "c")
    const second = await nth(1)
    const next = shared.take(scope, "c")
    second.end("new")
    assert.deepEqual(await Promise.all([...rest, late]), ["new", "new", "new"])
    ;(await nth(2)).end("newest")
    assert.equal(await next, "newest")
    assert.equal(begun.length, 3)
  })

  it("begin at once for whoever is alone, each time", async () => {
    const { begun, shared } = looks()
    for (let n = 0; n < 3; n++) {
      const look = shared.take(scope, "c")
      assert.equal(begun.length, n + 1)
      begun[n]?.end("x")
      await look
    }
  })

  it("are of one collection of one tenant", async () => {
    const { begun, shared } = looks()
    const all = [shared.take(scope, "c"), shared.take(scope, "d"), shared.take(systemScope(other), "c")]
    assert.deepEqual(
      begun.map((look) => [look.scope.tenant, look.id]),
      [
        ["acme", "c"],
        ["acme", "d"],
        ["other", "c"],
      ],
    )
    for (const look of begun) look.end("x")
    await Promise.all(all)
  })

  it("fail for those who share them, and only for them", async () => {
    const { begun, shared, nth } = looks()
    const first = shared.take(scope, "c")
    const rest = [shared.take(scope, "c"), shared.take(scope, "c")]
    begun[0]?.fail(new DomainError("STORE_UNAVAILABLE", "away"))
    await rejects(first, "STORE_UNAVAILABLE")
    ;(await nth(1)).fail(new DomainError("NOT_FOUND", "gone"))
    for (const each of rest) await rejects(each, "NOT_FOUND")
    const after = shared.take(scope, "c")
    ;(await nth(2)).end("x")
    assert.equal(await after, "x")
  })

  it("end for each with its own scope, and last as long as the longest of them", async () => {
    const { begun, shared, nth } = looks()
    const first = shared.take(scope, "c")
    const controller = new AbortController()
    const soon = shared.take({ ...scope, deadlineMs: Date.now() + 20 }, "c")
    const cancelled = shared.take({ ...scope, signal: controller.signal }, "c")
    const deadlineMs = Date.now() + 60_000
    const patient = shared.take({ ...scope, deadlineMs }, "c")
    const short = shared.take({ ...scope, deadlineMs: deadlineMs - 1_000 }, "c")
    await rejects(soon, "DEADLINE_EXCEEDED")
    controller.abort()
    await rejects(cancelled, "CANCELLED")
    await rejects(shared.take({ ...scope, signal: controller.signal }, "c"), "CANCELLED")
    begun[0]?.end("x")
    await first
    const look = await nth(1)
    assert.equal(look.scope.deadlineMs, deadlineMs)
    assert.equal(look.scope.signal.aborted, false)
    look.end("y")
    assert.deepEqual(await Promise.all([patient, short]), ["y", "y"])
  })

  it("are not taken for nobody", async () => {
    const { begun, shared } = looks()
    const first = shared.take(scope, "c")
    const soon = shared.take({ ...scope, deadlineMs: Date.now() + 5 }, "c")
    await rejects(soon, "DEADLINE_EXCEEDED")
    begun[0]?.end("x")
    await first
    await pause(20)
    assert.equal(begun.length, 1)
  })
})
