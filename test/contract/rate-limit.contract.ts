/** What every rate limiter must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import fc from "fast-check"
import type { RateLimiter } from "../../src/domain/cache/ports.ts"
import type { RateLimitAlgorithm, RateLimitRule } from "../../src/domain/cache/rate-limit.ts"
import { type CallScope, DEFAULT_TENANT, type TenantId } from "../../src/domain/kernel/scope.ts"
import { fails, repeatable, scopeOf } from "./cache-support.ts"

/** An engine under test. */
export interface RateLimitHarness {
  readonly limiter: RateLimiter
  freshTenant(): TenantId
  /** The time as the engine sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

const ALGORITHMS: readonly RateLimitAlgorithm[] = ["exactLog", "weightedWindows"]

/** Registers the suite. `exceptions`: reasons by the names of tests that an engine cannot pass. */
export function rateLimitContract(
  make: () => Promise<RateLimitHarness>,
  exceptions: Readonly<Record<string, string>> = {},
): void {
  describe("rate limiter", () => {
    const state: { harness?: RateLimitHarness } = {}
    before(async () => {
      state.harness = await make()
    })
    const harness = (): RateLimitHarness => state.harness ?? assert.fail("not prepared")
    for (const algorithm of ALGORITHMS) describe(algorithm, () => eachAlgorithm(harness, algorithm))
    sharedRules(make, harness, exceptions)
  })
}

function rule(rest: Partial<RateLimitRule> = {}): RateLimitRule {
  return { name: "calls", key: "k", limit: 3, windowMs: 1_000, cost: 1, algorithm: "exactLog", ...rest }
}

function eachAlgorithm(harness: () => RateLimitHarness, algorithm: RateLimitAlgorithm): void {
  const fresh = () => scopeOf(harness().freshTenant())
  const check = async (scope: CallScope, rest: Partial<RateLimitRule> = {}) => {
    const { allowed, verdicts } = await harness().limiter.check(scope, [rule({ algorithm, ...rest })])
    const verdict = verdicts[0] ?? assert.fail("no verdict")
    assert.equal(verdict.allowed, allowed)
    return verdict
  }

  it("lets exactly 100 of 500 simultaneous calls through a limit of 100", async () => {
    const scope = fresh()
    const calls = Array.from({ length: 500 }, async () => check(scope, { limit: 100 }))
    const passed = (await Promise.all(calls)).filter(({ allowed }) => allowed)
    assert.equal(passed.length, 100)
    assert.deepEqual(
      passed
        .map(({ remaining }) => remaining)
        .sort((a, b) => b - a)
        .slice(-2),
      [1, 0],
    )
  })

  it("charges nothing for denied calls and for looking", async () => {
    const scope = fresh()
    assert.equal((await check(scope, { cost: 2 })).remaining, 1)
    for (let turn = 0; turn < 5; turn++) assert.equal((await check(scope, { cost: 2 })).allowed, false)
    const look = await check(scope, { cost: 0 })
    assert.deepEqual([look.allowed, look.remaining, look.retryAfterMs], [true, 1, 0])
    assert.equal((await check(scope)).allowed, true)
    const full = await check(scope, { cost: 0 })
    assert.deepEqual([full.allowed, full.remaining], [false, 0])
    assert.ok(full.retryAfterMs > 0)
  })

  it("passes after exactly the wait it names, not a millisecond before, and is free at the reset time", async () => {
    const { clock } = harness()
    const step = fc.record({ wait: fc.integer({ min: 0, max: 700 }), cost: fc.integer({ min: 1, max: 7 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const scope = fresh()
        for (const { wait, cost } of steps) {
          clock.advance(wait)
          const { allowed, retryAfterMs } = await check(scope, { limit: 7, cost })
          if (allowed) continue
          assert.ok(retryAfterMs > 0)
          clock.advance(retryAfterMs - 1)
          assert.equal((await check(scope, { limit: 7, cost })).allowed, false)
          clock.advance(1)
          assert.equal((await check(scope, { limit: 7, cost })).allowed, true)
        }
        const { resetTimeMs } = await check(scope, { limit: 7, cost: 0 })
        clock.advance(resetTimeMs - clock.now())
        assert.equal((await check(scope, { limit: 7, cost: 0 })).remaining, 7)
      }),
      { numRuns: 60 },
    )
  })

  it("keeps names, keys, windows and tenants apart", async () => {
    const [ada, bob] = [fresh(), fresh()]
    const one = { limit: 1 }
    assert.equal((await check(ada, one)).allowed, true)
    assert.equal((await check(ada, one)).allowed, false)
    for (const rest of [{ name: "Calls" }, { key: "K" }, { windowMs: 1_001 }, { name: "callsk", key: "" }]) {
      assert.equal((await check(ada, { ...one, ...rest })).allowed, true)
    }
    assert.equal((await check(bob, one)).allowed, true)
  })

  it("takes a changed limit at once, and does not go wild when the clock is set back", async () => {
    const scope = fresh()
    for (let turn = 0; turn < 3; turn++) await check(scope)
    const lowered = await check(scope, { limit: 1 })
    assert.deepEqual([lowered.allowed, lowered.remaining], [false, 0])
    assert.equal((await check(scope, { limit: 4 })).allowed, true)
    harness().clock.advance(-10_000)
    assert.equal((await check(scope, { limit: 4 })).allowed, false)
    harness().clock.advance(12_000)
    assert.equal((await check(scope, { limit: 4 })).remaining, 3)
  })
}

function sharedRules(
  make: () => Promise<RateLimitHarness>,
  harness: () => RateLimitHarness,
  exceptions: Readonly<Record<string, string>>,
): void {
  const fresh = () => scopeOf(harness().freshTenant())

  it("never lets more than the limit through any window (exact log)", async () => {
    const { clock, limiter } = harness()
    const step = fc.record({ wait: fc.integer({ min: 0, max: 400 }), cost: fc.integer({ min: 1, max: 4 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const scope = fresh()
        const passed: { readonly at: number; readonly cost: number }[] = []
        for (const { wait, cost } of steps) {
          clock.advance(wait)
          const before = passed.filter(({ at }) => at > clock.now() - 1_000)
          const used = before.reduce((sum, hit) => sum + hit.cost, 0)
          const { allowed, verdicts } = await limiter.check(scope, [rule({ limit: 5, cost })])
          assert.equal(allowed, used + cost <= 5)
          assert.equal(verdicts[0]?.remaining, 5 - used - (allowed ? cost : 0))
          if (allowed) passed.push({ at: clock.now(), cost })
        }
      }),
      { numRuns: 60 },
    )
  })

  it("counts against all limits or against none", async () => {
    const scope = fresh()
    const rules = [
      rule({ name: "wide", limit: 10 }),
      rule({ name: "narrow", limit: 1, algorithm: "weightedWindows" }),
    ]
    assert.equal((await harness().limiter.check(scope, rules)).allowed, true)
    const denied = await harness().limiter.check(scope, rules)
    assert.deepEqual(
      [denied.allowed, ...denied.verdicts.map(({ allowed, remaining }) => [allowed, remaining])],
      [false, [true, 9], [false, 0]],
    )
    const [wide = rule()] = rules
    assert.equal((await harness().limiter.check(scope, [{ ...wide, cost: 0 }])).verdicts[0]?.remaining, 9)
  })

  it("counts a request_id once", async () => {
    const scope = fresh()
    const check = (id: string, body?: string) =>
      harness().limiter.check(repeatable(scope, id, body), [rule()])
    const first = await check("a")
    assert.deepEqual(await check("a"), first)
    assert.equal((await check("b")).verdicts[0]?.remaining, 1)
    await fails("REQUEST_ID_REUSED", () => check("a", "other"))
  })

  const sweeping = "sweeps windows in which nothing happens any more, and no others"
  it(sweeping, { skip: exceptions[sweeping] ?? false }, async () => {
    const { limiter, clock } = await make()
    const scope = fresh()
    await limiter.check(scope, [
      rule({ key: "old" }),
      rule({ key: "old", name: "w", algorithm: "weightedWindows" }),
    ])
    clock.advance(2_000)
    await limiter.check(scope, [rule({ key: "new" })])
    assert.equal(await limiter.sweep(scopeOf(DEFAULT_TENANT), 100), 2)
    assert.equal((await limiter.check(scope, [rule({ key: "new", cost: 0 })])).verdicts[0]?.remaining, 2)
  })

  it("does nothing past the deadline and after close", async () => {
    const { limiter, clock } = await make()
    const scope = fresh()
    await fails("DEADLINE_EXCEEDED", () => limiter.check({ ...scope, deadlineMs: clock.now() }, [rule()]))
    assert.equal((await limiter.check(scope, [rule({ cost: 0 })])).verdicts[0]?.remaining, 3)
    await limiter.close()
    await fails("STORE_UNAVAILABLE", () => limiter.check(scope, [rule()]))
  })
}
