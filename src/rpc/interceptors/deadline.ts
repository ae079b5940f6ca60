import { DomainError } from "../../domain/kernel/errors.ts"
import type { ActiveCalls } from "../active-calls.ts"
import type { Call } from "../call.ts"
import { Deadlines } from "../deadlines.ts"
import type { RpcLimits } from "../limits.ts"
import type { Interceptor } from "./step.ts"

/** Beyond 24.8 days a timer's 32 bits overflow and it fires at once. */
const LONGEST_MS = 24 * 24 * 3_600_000

/** Shortens absurd deadlines, gives one to calls without, and answers in time even where the handler hangs. */
export function deadline(limits: RpcLimits, active: ActiveCalls): Interceptor {
  const deadlines = new Deadlines(active, expire)
  return {
    name: "deadline",
    compile(method) {
      const open = method.longLived || method.kind !== "unary"
      const defaultMs = open ? Number.POSITIVE_INFINITY : limits.defaultDeadlineMs
      const maximumMs = open ? LONGEST_MS : Math.min(limits.maxDeadlineMs, LONGEST_MS)
      return {
        enter(call) {
          const now = call.arrivedMs
          if (call.deadlineMs === Number.POSITIVE_INFINITY) call.deadlineMs = now + defaultMs
          else if (call.deadlineMs <= now) throw deadlineExceeded()
          else if (call.deadlineMs > now + maximumMs) call.deadlineMs = now + maximumMs
        },
        wait(call) {
          if (call.deadlineMs !== Number.POSITIVE_INFINITY) deadlines.watch(call)
        },
        leave(call) {
          if (call.waiting) deadlines.unwatch(call)
        },
      }
    },
  }
}

function expire(call: Call): void {
  call.abort(deadlineExceeded())
}

function deadlineExceeded(): DomainError {
  return new DomainError("DEADLINE_EXCEEDED", "the deadline passed before the work was finished")
}
