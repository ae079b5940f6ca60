/** Measures calls at the edge, and begins their span when tracing is on. */
import type { TraceContext } from "../domain/kernel/trace.ts"
import type { CallObserver, ObservedCall } from "../rpc/telemetry-seam.ts"
import type { Counter, Histogram, MetricRegistry } from "./metrics.ts"
import { LABEL, METRIC } from "./names.ts"
import type { CallSpan, Tracing } from "./tracing.ts"

/** Names of the canonical status codes, by number. */
export const STATUS_NAMES: readonly string[] = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
]

/** The name of a gRPC status code. */
export function statusName(code: number): string {
  return STATUS_NAMES[code] ?? "UNKNOWN"
}

/** The series of one method, looked up once. */
interface MethodSeries {
  readonly method: string
  readonly duration: Histogram
  readonly counters: (Counter | undefined)[]
}

class Call implements ObservedCall {
  readonly #started = performance.now()
  readonly #series: MethodSeries
  readonly #observer: RpcObserver
  readonly #span: CallSpan | undefined

  constructor(observer: RpcObserver, series: MethodSeries, span: CallSpan | undefined) {
    this.#observer = observer
    this.#series = series
    this.#span = span
  }

  get trace(): TraceContext | undefined {
    return this.#span?.trace
  }

  get traceId(): string | undefined {
    return this.#span?.traceId
  }

  end(code: number, reason: string | undefined): void {
    this.#series.duration.observe((performance.now() - this.#started) / 1_000)
    const counter = this.#series.counters[code]
    if (counter !== undefined) counter.value += 1
    else this.#observer.count(this.#series, code)
    this.#span?.end(code, reason)
  }
}

/** The observer that the transports get. */
export class RpcObserver implements CallObserver {
  readonly #series = new Map<string, MethodSeries>()
  readonly #calls
  readonly #durations
  readonly #tracing: Tracing | undefined

  constructor(registry: MetricRegistry, tracing: Tracing | undefined) {
    this.#tracing = tracing
    this.#calls = registry.counter(METRIC.rpcCalls, "Calls that ended, by method and status.", [
      LABEL.method,
      LABEL.status,
    ])
    this.#durations = registry.histogram(METRIC.rpcDuration, "Duration of calls in seconds.", [LABEL.method])
  }

  onStart(method: string, header: (name: string) => string | undefined): ObservedCall {
    return new Call(
      this,
      this.#series.get(method) ?? this.#add(method),
      this.#tracing?.startCall(method, header),
    )
  }

  /** The first call of a method that ends with this code. */
  count(series: MethodSeries, code: number): void {
    const counter = this.#calls.with(series.method, statusName(code))
    series.counters[code] = counter
    counter.inc()
  }

  #add(method: string): MethodSeries {
    const series = { method, duration: this.#durations.with(method), counters: [] }
    this.#series.set(method, series)
    return series
  }
}
