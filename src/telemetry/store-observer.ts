/** Measures store calls, and puts a span around them when the call is traced. */
import type { TraceContext } from "../domain/kernel/trace.ts"
import type { Counter, Histogram, MetricRegistry } from "./metrics.ts"
import { LABEL, METRIC } from "./names.ts"
import type { StoreSpan, Tracing } from "./tracing.ts"

/** The series of one operation of one store. */
export class OperationSeries {
  readonly #duration: Histogram
  readonly #errors: (reason: string) => Counter
  readonly #startSpan: ((parent: TraceContext) => StoreSpan) | undefined

  constructor(
    duration: Histogram,
    errors: (reason: string) => Counter,
    startSpan: ((parent: TraceContext) => StoreSpan) | undefined,
  ) {
    this.#duration = duration
    this.#errors = errors
    this.#startSpan = startSpan
  }

  /** A span under `parent`; undefined when the call is not traced. */
  start(parent: TraceContext | undefined): StoreSpan | undefined {
    return parent === undefined ? undefined : this.#startSpan?.(parent)
  }

  /** The call ended after `durationMs`, with `reason` when it failed. */
  end(durationMs: number, reason: string | undefined, span: StoreSpan | undefined): void {
    this.#duration.observe(durationMs / 1_000)
    if (reason !== undefined) this.#errors(reason).inc()
    if (span !== undefined) span.end(reason)
  }
}

/** Hands out {@link OperationSeries}. */
export class StoreObserver {
  readonly #durations
  readonly #errors
  readonly #tracing: Tracing | undefined

  constructor(registry: MetricRegistry, tracing: Tracing | undefined) {
    this.#tracing = tracing
    const labels = [LABEL.store, LABEL.operation]
    this.#durations = registry.histogram(METRIC.storeDuration, "Duration of store calls in seconds.", labels)
    this.#errors = registry.counter(METRIC.storeErrors, "Store calls that failed, by reason.", [
      ...labels,
      LABEL.reason,
    ])
  }

  /** The series of `operation` (a port's method) on `store`. */
  operation(store: string, operation: string): OperationSeries {
    const tracing = this.#tracing
    const name = `${store} ${operation}`
    return new OperationSeries(
      this.#durations.with(store, operation),
      (reason) => this.#errors.with(store, operation, reason),
      tracing && ((parent) => tracing.startStoreCall(name, store, operation, parent)),
    )
  }
}
