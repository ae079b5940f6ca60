import { DomainError } from "../../domain/kernel/errors.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Call } from "../call.ts"
import type { MethodInfo } from "../compile.ts"
import type { RpcLimits } from "../limits.ts"
import type { MemoryPressure } from "../memory-pressure.ts"
import type { Interceptor, Step } from "./step.ts"

/** What one tenant has in flight. */
interface TenantCount {
  calls: number
  streams: number
}

/** The memory comes back when calls end and garbage is collected, not at once. */
const MEMORY_RETRY_MS = 1_000

/** What is in flight, for the limits and for GetStatus. */
export class InFlight {
  calls = 0
  streams = 0
  /** Tenants with calls in flight. */
  active = 0
  readonly #tenants = new Map<TenantId, TenantCount>()

  /** The counters of one tenant; they vanish with its last call. */
  of(tenant: TenantId): TenantCount {
    let entry = this.#tenants.get(tenant)
    if (entry === undefined) {
      entry = { calls: 0, streams: 0 }
      this.#tenants.set(tenant, entry)
    }
    return entry
  }

  /** Drops the counters of a tenant that has nothing in flight, so that the map cannot grow with every name ever used. */
  prune(tenant: TenantId, entry: TenantCount): void {
    if (entry.calls === 0 && entry.streams === 0 && this.#tenants.size > 1024) this.#tenants.delete(tenant)
  }
}

/**
 * Sheds what is over the limits, before any work is done for it. Health checks and what operators need in an emergency (status,
 * breakers, drain) are never shed.
 */
export function limits(maximum: RpcLimits, inFlight: InFlight, memory: MemoryPressure): Interceptor {
  return {
    name: "limits",
    compile(method) {
      if (method.access === "public") return undefined
      const open = method.longLived || method.kind !== "unary"
      if (open) return streamStep(maximum, inFlight, memory)
      return isVital(method) ? vitalStep(inFlight) : callStep(maximum, inFlight, memory)
    },
  }
}

function isVital({ platformOnly, plane }: MethodInfo): boolean {
  return platformOnly && plane === "admin.*"
}

function vitalStep(inFlight: InFlight): Step {
  return {
    enter: (call) => takeCall(call, inFlight, inFlight.of(call.tenant)),
    leave: (call) => leaveCall(call, inFlight),
  }
}

/**
 * Every tenant may have as much as it wants until the pressure begins; what lies beyond that is kept for tenants below their
 * equal share, so that nobody who is modest pays for somebody who is not.
 */
function callStep(maximum: RpcLimits, inFlight: InFlight, memory: MemoryPressure): Step {
  const pressedAt = maximum.maxInFlight * maximum.fairShareAt
  return {
    enter(call) {
      const mine = inFlight.of(call.tenant)
      if (inFlight.calls >= maximum.maxInFlight) throw overloaded("calls in flight", inFlight.calls)
      if (mine.calls >= maximum.maxInFlightPerTenant)
        throw overloaded("calls in flight of the tenant", mine.calls)
      const used = memory.share(call.arrivedMs)
      if (used >= maximum.refuseAtMemory) throw outOfMemory(used)
      const crowded = inFlight.calls >= pressedAt && mine.calls >= maximum.maxInFlight / inFlight.active
      const scarce = used >= maximum.shedAtMemory && mine.calls > inFlight.calls / inFlight.active
      if (crowded || scarce) throw overloaded("calls in flight for the tenant's share", mine.calls)
      takeCall(call, inFlight, mine)
    },
    leave: (call) => leaveCall(call, inFlight),
  }
}

function takeCall(call: Call, inFlight: InFlight, mine: TenantCount): void {
  inFlight.calls++
  if (mine.calls++ === 0) inFlight.active++
  call.limitedTenant = mine
}

function leaveCall(call: Call, inFlight: InFlight): void {
  inFlight.calls--
  const mine = call.limitedTenant
  if (mine === undefined) return
  if (--mine.calls === 0) inFlight.active--
  inFlight.prune(call.tenant, mine)
}

function streamStep(maximum: RpcLimits, inFlight: InFlight, memory: MemoryPressure): Step {
  return {
    enter(call) {
      const mine = inFlight.of(call.tenant)
      if (mine.streams >= maximum.maxStreamsPerTenant) throw overloaded("streams of the tenant", mine.streams)
      const used = memory.share()
      if (used >= maximum.shedAtMemory) throw outOfMemory(used)
      inFlight.streams++
      mine.streams++
      call.limitedTenant = mine
    },
    leave(call) {
      inFlight.streams--
      const mine = call.limitedTenant
      if (mine === undefined) return
      mine.streams--
      inFlight.prune(call.tenant, mine)
    },
  }
}

function overloaded(limit: string, value: number): DomainError {
  return new DomainError("OVERLOADED", `too many ${limit}: ${value}; nothing was done, retry later`, {
    metadata: { limit, value: String(value) },
  })
}

function outOfMemory(used: number): DomainError {
  const value = `${Math.round(used * 100)} %`
  return new DomainError(
    "OVERLOADED",
    `the daemon is short of memory, ${value} are used; nothing was done, retry later`,
    { metadata: { limit: "memory", value }, retryDelayMs: MEMORY_RETRY_MS },
  )
}
