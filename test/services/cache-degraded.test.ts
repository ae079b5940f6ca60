/** What reads of a cache that is away are answered. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { CallContext } from "../../src/rpc/handler.ts"
import { orMiss } from "../../src/services/cache-degraded.ts"

const MISS = "miss"

function contextOf(
  deadlineMs = Number.POSITIVE_INFINITY,
  signal = new AbortController().signal,
): CallContext {
  return { ...systemScope(), deadlineMs, signal, method: "test/Get" } as CallContext
}

const failing = (reason: ConstructorParameters<typeof DomainError>[0]) => () =>
  Promise.reject(new DomainError(reason, "by order of a test"))

describe("a read of a cache that is away", () => {
  for (const reason of ["STORE_UNAVAILABLE", "STORE_AUTH", "OVERLOADED", "DEADLINE_EXCEEDED"] as const) {
    it(`is a miss: ${reason}`, async () => {
      assert.equal(await orMiss({ afterMs: 1_000 }, contextOf(), failing(reason), () => MISS), MISS)
    })
  }

  it("fails where the configuration says so, and where the request is at fault", async () => {
    const away = failing("STORE_UNAVAILABLE")
    await assert.rejects(async () => orMiss(undefined, contextOf(), away, () => MISS))
    await assert.rejects(async () => orMiss({ afterMs: 1 }, contextOf(), failing("WRONG_TYPE"), () => MISS))
  })

  it("fails when the caller's own deadline ended it", async () => {
    const ended = contextOf(Date.now() + 5, AbortSignal.abort())
    const late = failing("DEADLINE_EXCEEDED")
    await assert.rejects(async () => orMiss({ afterMs: 1_000 }, ended, late, () => MISS))
  })

  it("waits no longer for the cache than it may, and never longer than the caller", () => {
    const seen: number[] = []
    const note = (scope: { readonly deadlineMs: number }) => {
      seen.push(scope.deadlineMs)
      return MISS
    }
    const soon = Date.now() + 10
    orMiss({ afterMs: 60_000 }, contextOf(soon), note, () => MISS)
    orMiss({ afterMs: 1_000 }, contextOf(), note, () => MISS)
    orMiss({ afterMs: undefined }, contextOf(), note, () => MISS)
    assert.equal(seen[0], soon)
    assert.ok(seen[1] !== undefined && seen[1] <= Date.now() + 1_000)
    assert.equal(seen[2], Number.POSITIVE_INFINITY)
  })
})
