/** Answers at the deadline even when the store hangs. What the store then still does is ignored; it was told by the signal. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** Longer timers overflow and fire at once. */
const MAX_TIMER_MS = 2_147_483_647

const byDeadline = new WeakSet<object>()

/** Whether the deadline made this error while the store had the call. */
export function isDeadlineOfStore(error: unknown): boolean {
  return typeof error === "object" && error !== null && byDeadline.has(error)
}

/** Deadlines for the calls to `store`. Streams keep their own time. */
export function deadline(store: string): Decorate {
  return (_name, kind, method) => {
    if (kind === "stream") return method
    return (scope, ...rest) => {
      if (scope.deadlineMs === Number.POSITIVE_INFINITY) return method(scope, ...rest)
      const leftMs = scope.deadlineMs - Date.now()
      if (leftMs <= 0)
        return Promise.reject(passed("the deadline passed before the store was asked; nothing was done"))
      return limited(method, scope, rest, leftMs, () => late(store, kind))
    }
  }
}

function limited(
  method: PortMethod,
  scope: CallScope,
  rest: readonly unknown[],
  leftMs: number,
  makeError: () => DomainError,
): unknown {
  const result = method(scope, ...rest)
  if (!(result instanceof Promise)) return result
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        const error = makeError()
        byDeadline.add(error)
        reject(error)
      },
      Math.min(leftMs, MAX_TIMER_MS),
    )
    result.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

function late(store: string, kind: "read" | "write"): DomainError {
  if (kind === "read") return passed("the deadline passed while the store was working")
  return new DomainError(
    "OUTCOME_UNKNOWN",
    "the deadline passed while the store was working, so the change may have been made; retry with the same request_id",
    { metadata: { store } },
  )
}

function passed(message: string): DomainError {
  return new DomainError("DEADLINE_EXCEEDED", message)
}
