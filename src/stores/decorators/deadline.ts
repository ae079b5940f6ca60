/**
 * Ends a call at its deadline even when the store hangs, and tells the store's adapter to end the work: the signal it was handed
 * is aborted by the caller's and by the deadline alike.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, Idempotency, TenantId } from "../../domain/kernel/scope.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** Longer timers overflow and fire at once. */
const MAX_TIMER_MS = 2_147_483_647

/** How long the store had the call that the error ended, in milliseconds. */
const byDeadline = new WeakMap<object, number>()

/** Calls that had to wait before the store was asked, and when it was. */
const asked = new WeakMap<CallScope, number>()

/** How long the store had the call when the deadline made this error, in milliseconds; undefined for any other error. */
export function heldByStoreMs(error: unknown): number | undefined {
  return typeof error === "object" && error !== null ? byDeadline.get(error) : undefined
}

/** Says that the call waits no longer and the store is asked now. */
export function storeIsAsked(scope: CallScope): void {
  asked.set(scope, Date.now())
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

/** The caller's scope with a signal that the deadline aborts, too. The signal is made when it is asked for. */
class TimedScope implements CallScope {
  readonly tenant: TenantId
  readonly deadlineMs: number
  readonly idempotency: Idempotency | undefined
  readonly #caller: CallScope
  #controller: AbortController | undefined
  #follow: (() => void) | undefined
  #expired: DomainError | undefined

  constructor(caller: CallScope) {
    this.tenant = caller.tenant
    this.deadlineMs = caller.deadlineMs
    this.idempotency = caller.idempotency
    this.#caller = caller
  }

  get actor(): string {
    return this.#caller.actor
  }

  get trace(): object | undefined {
    return this.#caller.trace
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController()
      this.#controller = controller
      const { signal } = this.#caller
      if (this.#expired !== undefined) controller.abort(this.#expired)
      else if (signal.aborted) controller.abort(signal.reason)
      else {
        this.#follow = () => controller.abort(signal.reason)
        signal.addEventListener("abort", this.#follow, { once: true })
      }
    }
    return this.#controller.signal
  }

  /** The deadline has passed. */
  expire(reason: DomainError): void {
    this.#expired = reason
    this.#controller?.abort(reason)
  }

  /** The work has ended: a caller's signal that lives longer must not collect listeners. */
  end(): void {
    if (this.#follow !== undefined) this.#caller.signal.removeEventListener("abort", this.#follow)
  }
}

function limited(
  method: PortMethod,
  scope: CallScope,
  rest: readonly unknown[],
  leftMs: number,
  makeError: () => DomainError,
): unknown {
  const timed = new TimedScope(scope)
  let result: unknown
  try {
    result = method(timed, ...rest)
  } finally {
    if (!(result instanceof Promise)) timed.end()
  }
  if (!(result instanceof Promise)) return result
  return until(result, timed, leftMs, makeError)
}

function until(
  result: Promise<unknown>,
  timed: TimedScope,
  leftMs: number,
  makeError: () => DomainError,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        const error = makeError()
        byDeadline.set(error, Date.now() - (asked.get(timed) ?? timed.deadlineMs - leftMs))
        reject(error)
        timed.expire(passed("the deadline passed while the store was working"))
      },
      Math.min(leftMs, MAX_TIMER_MS),
    )
    result.then(
      (value) => {
        clearTimeout(timer)
        timed.end()
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        timed.end()
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
