/** A duration and, for traced calls, a span around each call. What a method returns at once is returned at once. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { TraceContext } from "../../domain/kernel/trace.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** A span under way. */
export interface OperationSpan {
  end(reason: string | undefined): void
}

/** Where the measurements of one operation go. */
export interface OperationObserver<S extends OperationSpan = OperationSpan> {
  /** A span under the call's, or undefined. */
  start(parent: TraceContext | undefined): S | undefined
  /** The call ended, with `reason` when it failed. */
  end(durationMs: number, reason: string | undefined, span: S | undefined): void
}

/** Finds the observer of an operation; asked once per method at start-up. */
export interface PortObserver<S extends OperationSpan = OperationSpan> {
  operation(store: string, operation: string): OperationObserver<S>
}

/** Measures the calls of `port` to `store`. */
export function observe<S extends OperationSpan>(
  store: string,
  port: string,
  observer: PortObserver<S>,
): Decorate {
  return (name, kind, method) => {
    const operation = observer.operation(store, `${port}.${name}`)
    return kind === "stream" ? observeStream(method, operation) : observeCall(method, operation)
  }
}

function observeCall<S extends OperationSpan>(
  method: PortMethod,
  operation: OperationObserver<S>,
): PortMethod {
  // Explicit parameters instead of a rest array: this is on the path of every cache hit.
  return function observed(scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) {
    const span = scope.trace === undefined ? undefined : operation.start(scope.trace)
    const started = performance.now()
    let result: unknown
    try {
      result = method(scope, a, b, c, d, e)
    } catch (error) {
      operation.end(performance.now() - started, reasonOf(error), span)
      throw error
    }
    if (result instanceof Promise) return settle(result, operation, started, span)
    operation.end(performance.now() - started, undefined, span)
    return result
  }
}

function settle<S extends OperationSpan>(
  result: Promise<unknown>,
  operation: OperationObserver<S>,
  started: number,
  span: S | undefined,
): Promise<unknown> {
  return result.then(
    (value) => {
      operation.end(performance.now() - started, undefined, span)
      return value
    },
    (error: unknown) => {
      operation.end(performance.now() - started, reasonOf(error), span)
      throw error
    },
  )
}

/** A stream is measured from its first pull to its end. */
function observeStream<S extends OperationSpan>(
  method: PortMethod,
  operation: OperationObserver<S>,
): PortMethod {
  return (scope, ...rest) => {
    const items = method(scope, ...rest) as AsyncIterable<unknown>
    return (async function* measured() {
      const span = scope.trace === undefined ? undefined : operation.start(scope.trace)
      const started = performance.now()
      let reason: string | undefined
      try {
        yield* items
      } catch (error) {
        reason = reasonOf(error)
        throw error
      } finally {
        operation.end(performance.now() - started, reason, span)
      }
    })()
  }
}

function reasonOf(error: unknown): string {
  return error instanceof DomainError ? error.reason : "INTERNAL"
}
