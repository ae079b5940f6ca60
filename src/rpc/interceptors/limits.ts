import { DomainError } from "../../domain/kernel/errors.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Call } from "../call.ts"
import type { RpcLimits } from "../limits.ts"
import type { Interceptor, Step } from "./step.ts"

/** What is in flight, for the limits and for GetStatus. */
export class InFlight {
  calls = 0
  streams = 0
  readonly #tenants = new Map<TenantId, { calls: number; streams: number }>()

  /** The counters of one tenant; they vanish with its last call. */
  of(tenant: TenantId): { calls: number; streams: number } {
    let entry = this.#tenants.get(tenant)
    if (entry === undefined) {
      entry = { calls: 0, streams: 0 }
      this.#tenants.set(tenant, entry)
    }
    return entry
  }

  /** Drops the counters of a tenant that has nothing in flight, so that the map cannot grow with every name ever used. */
  prune(tenant: TenantId, entry: { calls: number; streams: number }): void {
    if (entry.calls === 0 && entry.streams === 0 && this.#tenants.size > 1024) this.#tenants.delete(tenant)
  }
}

/** Sheds what is over the limits, before any work is done for it. Health checks are never shed. */
export function limits(maximum: RpcLimits, inFlight: InFlight): Interceptor {
  return {
    name: "limits",
    compile(method) {
      if (method.access === "public") return undefined
      const open = method.longLived || method.kind !== "unary"
      return open ? streamStep(maximum, inFlight) : callStep(maximum, inFlight)
    },
  }
}

function callStep(maximum: RpcLimits, inFlight: InFlight): Step {
  return {
    enter(call) {
      const mine = inFlight.of(call.tenant)
      if (inFlight.calls >= maximum.maxInFlight) throw overloaded("calls in flight", inFlight.calls)
      if (mine.calls >= maximum.maxInFlightPerTenant)
        throw overloaded("calls in flight of the tenant", mine.calls)
      inFlight.calls++
      mine.calls++
      call.limitedTenant = mine
    },
    leave(call) {
      inFlight.calls--
      release(call, inFlight, "calls")
    },
  }
}

function streamStep(maximum: RpcLimits, inFlight: InFlight): Step {
  return {
    enter(call) {
      const mine = inFlight.of(call.tenant)
      if (mine.streams >= maximum.maxStreamsPerTenant) throw overloaded("streams of the tenant", mine.streams)
      inFlight.streams++
      mine.streams++
      call.limitedTenant = mine
    },
    leave(call) {
      inFlight.streams--
      release(call, inFlight, "streams")
    },
  }
}

function release(call: Call, inFlight: InFlight, counter: "calls" | "streams"): void {
  const mine = call.limitedTenant
  if (mine === undefined) return
  mine[counter]--
  inFlight.prune(call.tenant, mine)
}

function overloaded(limit: string, value: number): DomainError {
  return new DomainError("OVERLOADED", `too many ${limit}: ${value}; nothing was done, retry later`, {
    metadata: { limit, value: String(value) },
  })
}
