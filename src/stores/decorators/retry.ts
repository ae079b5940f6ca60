/**
 * Sends a call again that failed because of its store, where a repetition cannot do harm: reads, writes with a request_id, writes
 * that are repeatable by nature. Never past the deadline, never while the breaker is open, never beyond the store's budget, and
 * never a stream that has given an item.
 */
import { DomainError, type Reason } from "../../domain/kernel/errors.ts"
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { OperationClass } from "./breaker.ts"
import type { RetryBudget } from "./retry-budget.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** How often and how fast. */
export interface RetrySettings {
  /** Attempts in all; 1 repeats nothing. */
  readonly attempts: number
  /** Pause before the first repetition, before jitter; each further one doubles it. */
  readonly baseMs: number
  readonly maxMs: number
}

/** What {@link retry} needs. */
export interface RetryOptions {
  readonly settings: RetrySettings
  readonly budget: RetryBudget
  /** Whether the breaker of this class lets calls through. */
  passing(operationClass: OperationClass): boolean
  /** 0 to 1, for jitter. */
  readonly random?: () => number
}

/** Not applied for certain, or perhaps applied: in both cases a repeatable call is worth another try. */
const REPEATED: ReadonlySet<Reason> = new Set(["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"])

/** Reasons that speak for their own attempt only and leave open what became of an earlier one. */
const BLIND: ReadonlySet<Reason> = new Set([
  "STORE_UNAVAILABLE",
  "STORE_AUTH",
  "OVERLOADED",
  "DRAINING",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "REQUEST_IN_PROGRESS",
])

/** See the top of this file. */
export function retry(options: RetryOptions): Decorate {
  return (_name, kind, method, repeatable) => {
    if (options.settings.attempts <= 1) return method
    if (kind === "stream") return retryStream(method, options)
    return retryCall(kind, method, repeatable, options)
  }
}

function retryCall(
  operationClass: OperationClass,
  method: PortMethod,
  repeatable: boolean,
  options: RetryOptions,
): PortMethod {
  const { budget } = options
  const answered = (value: unknown) => {
    budget.succeeded()
    return value
  }
  // Explicit parameters instead of a rest array: this is on the path of every call.
  return (scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) => {
    const result = method(scope, a, b, c, d, e)
    if (!(result instanceof Promise) || !(repeatable || scope.idempotency !== undefined)) return result
    return result.then(answered, (failure: unknown) =>
      again(operationClass, method, scope, [a, b, c, d, e], failure, options),
    )
  }
}

async function again(
  operationClass: OperationClass,
  method: PortMethod,
  scope: CallScope,
  rest: readonly unknown[],
  firstFailure: unknown,
  options: RetryOptions,
): Promise<unknown> {
  let failure = firstFailure
  let doubt: unknown
  for (let attempt = 1; ; attempt++) {
    if (operationClass === "write" && isUnknown(failure)) doubt = failure
    if (!(await mayRepeat(operationClass, scope, failure, attempt, options))) throw honest(failure, doubt)
    options.budget.retried()
    try {
      const value = await method(scope, ...rest)
      options.budget.succeeded()
      return value
    } catch (next) {
      failure = next
    }
  }
}

/** Once a write may have been applied, "nothing was done" is true of the last attempt only. */
function honest(failure: unknown, doubt: unknown): unknown {
  if (doubt === undefined) return failure
  return failure instanceof DomainError && BLIND.has(failure.reason) ? doubt : failure
}

function isUnknown(failure: unknown): boolean {
  return failure instanceof DomainError && failure.reason === "OUTCOME_UNKNOWN"
}

function retryStream(method: PortMethod, options: RetryOptions): PortMethod {
  return (scope, ...rest) =>
    (async function* retried() {
      for (let attempt = 1; ; attempt++) {
        let given = false
        try {
          for await (const item of method(scope, ...rest) as AsyncIterable<unknown>) {
            given = true
            yield item
          }
          options.budget.succeeded()
          return
        } catch (failure) {
          if (given || !(await mayRepeat("read", scope, failure, attempt, options))) throw failure
          options.budget.retried()
        }
      }
    })()
}

/** Waits for the time of the next attempt; false where there is to be none. */
async function mayRepeat(
  operationClass: OperationClass,
  scope: CallScope,
  failure: unknown,
  attempt: number,
  { settings, budget, passing, random = Math.random }: RetryOptions,
): Promise<boolean> {
  if (!(failure instanceof DomainError) || !REPEATED.has(failure.reason)) return false
  // Refused without asking the store: that says nothing new, and costs no tokens.
  if (!passing(operationClass)) return false
  if (!budget.failed() || attempt >= settings.attempts) return false
  const fullMs = Math.min(settings.baseMs * 2 ** (attempt - 1), settings.maxMs)
  const waitMs = Math.max(fullMs * (0.5 + random() / 2), failure.retryDelayMs ?? 0)
  if (Date.now() + waitMs >= scope.deadlineMs || scope.signal.aborted) return false
  await pause(waitMs, scope.signal)
  return !scope.signal.aborted && Date.now() < scope.deadlineMs && passing(operationClass)
}
