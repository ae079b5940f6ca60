/** Where telemetry hooks into calls. src/telemetry implements it; with no observer a call pays one branch at start-up. */
import type { TraceContext } from "../domain/kernel/trace.ts"

/** One observed call. */
export interface ObservedCall {
  /** What the spans of store calls hang on; becomes `scope.trace`. */
  readonly trace?: TraceContext | undefined
  /** For the log line of an internal error; undefined when the call is not traced. */
  readonly traceId?: string | undefined
  /** The call has ended with this gRPC status code (0 to 16) and, for failures, this reason. Called exactly once. */
  end(code: number, reason: string | undefined): void
}

/** Sees every call from its first header to its status. */
export interface CallObserver {
  /**
   * A call begins. `method` is the full name (`keelplane.v1.CacheService/Get`), `streaming` says whether it is anything but
   * unary, `header` reads a request header (traceparent, tracestate). Must not throw. Undefined: not observed.
   */
  onStart(
    method: string,
    header: (name: string) => string | undefined,
    streaming: boolean,
  ): ObservedCall | undefined
}
