/** Puts a store's breakers around the methods of a port. */
import { DomainError, type Reason } from "../../domain/kernel/errors.ts"
import type { Breaker, OperationClass, Verdict } from "./breaker.ts"
import { heldByStoreMs } from "./deadline.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** Reasons that say that the store is sick. Everything else that a store answers shows that it is there. */
const SICK: ReadonlySet<Reason> = new Set(["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN", "STORE_AUTH"])
/** Reasons that say nothing about the store: nobody waited for its answer, or it was never asked. */
const SILENT: ReadonlySet<Reason> = new Set(["CANCELLED", "DEADLINE_EXCEEDED", "OVERLOADED", "DRAINING"])

/** What a failed call says about its store. */
export function judge(error: unknown, slowMs: number): Verdict {
  const heldMs = heldByStoreMs(error)
  if (heldMs !== undefined) return heldMs >= slowMs ? "sick" : "nothing"
  // A defect of ours is no reason to stop asking the store.
  if (!(error instanceof DomainError)) return "nothing"
  if (SICK.has(error.reason)) return "sick"
  return SILENT.has(error.reason) ? "nothing" : "healthy"
}

/** Refuses calls while the breaker of their class is open and reports what they said. */
export function guard(breakers: Readonly<Record<OperationClass, Breaker>>, slowMs: number): Decorate {
  return (_name, kind, method) => {
    if (kind === "stream") return guardStream(breakers.read, slowMs, method)
    return guardCall(breakers[kind], slowMs, method)
  }
}

function guardCall(breaker: Breaker, slowMs: number, method: PortMethod): PortMethod {
  const answered = (value: unknown) => {
    breaker.report("healthy")
    return value
  }
  const failed = (error: unknown) => {
    breaker.report(judge(error, slowMs))
    throw error
  }
  // Explicit parameters instead of a rest array, and one promise: this is on the path of every call.
  return (scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) => {
    try {
      breaker.admit()
    } catch (error) {
      return Promise.reject(error)
    }
    let result: unknown
    try {
      result = method(scope, a, b, c, d, e)
    } catch (error) {
      result = Promise.reject(error)
    }
    return Promise.resolve(result).then(answered, failed)
  }
}

function guardStream(breaker: Breaker, slowMs: number, method: PortMethod): PortMethod {
  return (scope, ...rest) =>
    (async function* guarded() {
      breaker.admit()
      try {
        yield* method(scope, ...rest) as AsyncIterable<unknown>
        breaker.report("healthy")
      } catch (error) {
        breaker.report(judge(error, slowMs))
        throw error
      }
    })()
}
