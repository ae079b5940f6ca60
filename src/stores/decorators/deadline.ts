/**
 * Ends a call at its deadline even when the store hangs, and tells the store's adapter to end the work: the signal it was handed
 * is aborted by the caller's and by the deadline alike.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, Idempotency, TenantId } from "../../domain/kernel/scope.ts"
import { type Alarm, Alarms } from "./alarms.ts"
import type { Decorate } from "./wrap.ts"

/** How long the store had the call that the error ended, in milliseconds. */
const byDeadline = new WeakMap<object, number>()

/** Calls that had to wait before the store was asked, and when it was. */
const asked = new WeakMap<CallScope, number>()

/** Calls that have to wait before the store is asked. */
const inLine = new WeakSet<CallScope>()

/** How long the store had the call when the deadline made this error, in milliseconds; undefined for any other error. */
export function heldByStoreMs(error: unknown): number | undefined {
  return typeof error === "object" && error !== null ? byDeadline.get(error) : undefined
}

/** Says that the store is not asked yet: nothing is done if the deadline comes first. */
export function waitsInLine(scope: CallScope): void {
  inLine.add(scope)
}

/** Says that the call waits no longer and the store is asked now. */
export function storeIsAsked(scope: CallScope): void {
  inLine.delete(scope)
  asked.set(scope, Date.now())
}

const NOT_ASKED = "the deadline passed before the store was asked; nothing was done"

/** Deadlines for the calls to `store`. Streams keep their own time. */
export function deadline(store: string): Decorate {
  return (_name, kind, method) => {
    if (kind === "stream") return method
    const alarms = new Alarms()
    const makeError = () => late(store, kind)
    // Explicit parameters instead of a rest array: this is on the path of every call.
    return (scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) => {
      if (scope.deadlineMs === Number.POSITIVE_INFINITY) return method(scope, a, b, c, d, e)
      const leftMs = scope.deadlineMs - Date.now()
      if (leftMs <= 0) return Promise.reject(passed(NOT_ASKED))
      const timed = new TimedScope(scope, leftMs, makeError)
      let result: unknown
      try {
        result = method(timed, a, b, c, d, e)
      } finally {
        if (!(result instanceof Promise)) timed.end()
      }
      return result instanceof Promise ? until(result, timed, alarms) : result
    }
  }
}

/** The caller's scope with a signal that the deadline aborts, too. The signal is made when it is asked for. */
class TimedScope implements CallScope, Alarm {
  readonly tenant: TenantId
  readonly deadlineMs: number
  readonly idempotency: Idempotency | undefined
  readonly atMs: number
  isSet = false
  earlier: Alarm | undefined
  later: Alarm | undefined
  /** Gives up on the answer. */
  giveUp: ((error: DomainError) => void) | undefined
  readonly #caller: CallScope
  readonly #leftMs: number
  readonly #makeError: () => DomainError
  #controller: AbortController | undefined
  #follow: (() => void) | undefined
  #expired: DomainError | undefined

  constructor(caller: CallScope, leftMs: number, makeError: () => DomainError) {
    this.tenant = caller.tenant
    this.deadlineMs = caller.deadlineMs
    this.idempotency = caller.idempotency
    this.atMs = performance.now() + leftMs
    this.#caller = caller
    this.#leftMs = leftMs
    this.#makeError = makeError
  }

  get actor(): string {
    return this.#caller.actor
  }

  get trace(): CallScope["trace"] {
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
  ring(): void {
    if (inLine.has(this)) this.giveUp?.(passed(NOT_ASKED))
    else {
      const error = this.#makeError()
      byDeadline.set(error, Date.now() - (asked.get(this) ?? this.deadlineMs - this.#leftMs))
      this.giveUp?.(error)
    }
    this.#expired = passed("the deadline passed while the store was working")
    this.#controller?.abort(this.#expired)
  }

  /** The work has ended: a caller's signal that lives longer must not collect listeners. */
  end(): void {
    if (this.#follow !== undefined) this.#caller.signal.removeEventListener("abort", this.#follow)
  }
}

function until(result: Promise<unknown>, timed: TimedScope, alarms: Alarms): Promise<unknown> {
  return new Promise((resolve, reject) => {
    timed.giveUp = reject
    alarms.set(timed)
    const end = () => {
      alarms.remove(timed)
      timed.end()
    }
    result.then(
      (value) => {
        end()
        resolve(value)
      },
      (error: unknown) => {
        end()
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
