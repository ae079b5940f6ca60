/** What the domain knows about traces. */

/** The trace that a call is part of, as its spans hang on it. Telemetry makes it; to everybody else it is opaque but for its name. */
export interface TraceContext {
  /** W3C trace context of the innermost span: what work that is done later, or elsewhere, refers to. */
  readonly traceparent: string
}
