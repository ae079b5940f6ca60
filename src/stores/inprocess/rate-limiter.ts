/** The rate limiter in the daemon's own memory. */
import type { RateLimiter } from "../../domain/cache/ports.ts"
import type { RateLimitRule, RateLimitVerdict } from "../../domain/cache/rate-limit.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { Gate } from "./gate.ts"
import { IdempotencyRecords } from "./idempotency.ts"
import { ExactLog, type RateWindow, WeightedWindows } from "./rate-windows.ts"

/** Bounds of the engine. */
export interface RateLimiterLimits {
  /** Limits and remembered hits of one tenant together; beyond it the least recently used limit is forgotten, so it begins anew. */
  readonly maxWeightPerTenant: number
}

/** What holds unless bootstrap says otherwise. */
export const RATE_LIMITER_LIMITS: RateLimiterLimits = { maxWeightPerTenant: 2_000_000 }

interface Counter {
  readonly window: RateWindow
  readonly windowMs: number
  /** The latest time it has seen, so that a clock set back does not free or double anything. */
  nowMs: number
  /** What of it the tenant's weight contains. */
  weight: number
}

interface TenantCounters {
  /** In the order of use. */
  readonly counters: Map<string, Counter>
  weight: number
  sweeping: MapIterator<[string, Counter]> | undefined
}

/** See the file's comment. */
export class InProcessRateLimiter implements RateLimiter {
  readonly #limits: RateLimiterLimits
  readonly #gate: Gate
  readonly #records: IdempotencyRecords
  readonly #tenants = new Map<TenantId, TenantCounters>()

  constructor(clock: Clock, limits: RateLimiterLimits = RATE_LIMITER_LIMITS) {
    this.#limits = limits
    this.#gate = new Gate(clock)
    this.#records = new IdempotencyRecords(clock)
  }

  /** Forgets all windows of a tenant; answers how many there were. */
  eraseTenant(tenant: TenantId): number {
    this.#records.forget(tenant)
    const size = this.#tenants.get(tenant)?.counters.size ?? 0
    this.#tenants.delete(tenant)
    return size
  }

  check(
    scope: CallScope,
    rules: readonly RateLimitRule[],
  ): { readonly allowed: boolean; readonly verdicts: readonly RateLimitVerdict[] } {
    const nowMs = this.#gate.enter(scope)
    return this.#records.once(scope, "check", () => {
      const tenant = this.#tenant(scope.tenant)
      const counters = rules.map((rule) => counterOf(tenant, rule, nowMs))
      const allowed = counters.every((counter, index) => passes(counter, rules[index], nowMs))
      if (allowed) {
        for (const [index, counter] of counters.entries()) spend(counter, rules[index]?.cost ?? 0)
      }
      const verdicts = rules.map((rule, index) => verdictOf(counters[index], rule, allowed, nowMs))
      for (const counter of counters) weighAgain(tenant, counter)
      this.#settle(tenant)
      return { allowed, verdicts }
    })
  }

  sweep(scope: CallScope, limit: number): number {
    const nowMs = this.#gate.enter(scope)
    let seen = 0
    let freed = 0
    for (const tenant of this.#tenants.values()) {
      tenant.sweeping ??= tenant.counters.entries()
      while (seen < limit) {
        const next = tenant.sweeping.next()
        if (next.done === true) {
          tenant.sweeping = undefined
          break
        }
        seen++
        const [identity, counter] = next.value
        if (look(counter, counter.windowMs, 1, 0, nowMs).used > 0) weighAgain(tenant, counter)
        else {
          forget(tenant, identity, counter)
          freed++
        }
      }
    }
    return freed
  }

  async close(): Promise<void> {
    this.#gate.close()
    this.#tenants.clear()
    this.#records.clear()
  }

  #tenant(id: TenantId): TenantCounters {
    let tenant = this.#tenants.get(id)
    if (tenant === undefined) {
      tenant = { counters: new Map(), weight: 0, sweeping: undefined }
      this.#tenants.set(id, tenant)
    }
    return tenant
  }

  #settle(tenant: TenantCounters): void {
    for (const [identity, counter] of tenant.counters) {
      if (tenant.weight <= this.#limits.maxWeightPerTenant) return
      forget(tenant, identity, counter)
    }
  }
}

function counterOf(tenant: TenantCounters, rule: RateLimitRule, nowMs: number): Counter {
  const identity = `${rule.algorithm}:${rule.windowMs}:${rule.name.length}:${rule.name}${rule.key}`
  let counter = tenant.counters.get(identity)
  if (counter === undefined) {
    const window = rule.algorithm === "exactLog" ? new ExactLog() : new WeightedWindows()
    counter = { window, windowMs: rule.windowMs, nowMs, weight: 0 }
  } else {
    tenant.counters.delete(identity)
  }
  tenant.counters.set(identity, counter)
  return counter
}

function passes(counter: Counter, rule: RateLimitRule | undefined, nowMs: number): boolean {
  if (rule === undefined) return false
  return look(counter, rule.windowMs, rule.limit, askedFor(rule), nowMs).waitMs === 0
}

function look(counter: Counter, windowMs: number, limit: number, cost: number, nowMs: number) {
  counter.nowMs = Math.max(counter.nowMs, nowMs)
  return counter.window.look(counter.nowMs, windowMs, limit, cost)
}

/** A cost of 0 asks what a cost of 1 would be told. */
function askedFor({ cost }: RateLimitRule): number {
  return Math.max(cost, 1)
}

function spend(counter: Counter, cost: number): void {
  if (cost > 0) counter.window.spend(counter.nowMs, counter.windowMs, cost)
}

function weighAgain(tenant: TenantCounters, counter: Counter): void {
  tenant.weight += counter.window.weight - counter.weight
  counter.weight = counter.window.weight
}

function verdictOf(
  counter: Counter | undefined,
  rule: RateLimitRule,
  counted: boolean,
  nowMs: number,
): RateLimitVerdict {
  if (counter === undefined) throw new RangeError("a rule without a counter")
  const { windowMs, limit } = rule
  const now = look(counter, windowMs, limit, askedFor(rule), nowMs)
  // Counted means that it passed; what is left now says nothing about that any more.
  const allowed = counted || now.waitMs === 0
  return {
    allowed,
    remaining: Math.max(0, limit - now.used),
    retryAfterMs: allowed ? 0 : now.waitMs,
    resetTimeMs: nowMs + (now.emptyAtMs - counter.nowMs),
  }
}

function forget(tenant: TenantCounters, identity: string, counter: Counter): void {
  tenant.counters.delete(identity)
  tenant.weight -= counter.weight
}
