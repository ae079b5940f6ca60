/** Spans. Everything here exists only when an OTLP endpoint is configured; the SDK is loaded then and not before. */
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api"
import type { TraceContext } from "../domain/kernel/trace.ts"
import { ATTRIBUTE, TRACER } from "./names.ts"
import { parseTraceparent } from "./trace-context.ts"

/** Where spans go and how many there are. */
export interface TracingOptions {
  /** Base URL of an OTLP/HTTP collector. */
  readonly endpoint: string
  /** Share of calls without a sampled parent, 0 to 1. */
  readonly sampleRatio: number
  readonly version: string
}

/** An OpenTelemetry context as calls carry it. */
export class SpanTrace implements TraceContext {
  readonly context: Context

  constructor(context: Context) {
    this.context = context
  }

  get traceparent(): string {
    const span = trace.getSpanContext(this.context)
    if (span === undefined) return ""
    return `00-${span.traceId}-${span.spanId}-${(span.traceFlags & 0xff).toString(16).padStart(2, "0")}`
  }
}

/** A server span. */
export interface CallSpan {
  /** What its children hang on. */
  readonly trace: TraceContext
  readonly traceId: string | undefined
  end(code: number, reason: string | undefined): void
}

/** A span of one delivery of entries of the outbox. */
export interface DeliverySpan {
  readonly trace: TraceContext
  /** With the reason of its first failure, where it had one. */
  end(reason: string | undefined): void
}

/** A span of one store call. */
export interface StoreSpan {
  end(reason: string | undefined): void
}

/** Most links of one span. */
const MAX_LINKS = 64

const INTERNAL_CODES = new Set([2, 4, 12, 13, 14, 15])

/** Makes spans. */
export class Tracing {
  readonly #tracer: Tracer
  readonly #shutdown: () => Promise<void>

  constructor(tracer: Tracer, shutdown: () => Promise<void>) {
    this.#tracer = tracer
    this.#shutdown = shutdown
  }

  /** Begins the server span of a call, under the caller's span when its headers name one. */
  startCall(method: string, header: (name: string) => string | undefined): CallSpan {
    const remote = parseTraceparent(header("traceparent"), header("tracestate"))
    const parent = remote === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, remote)
    const attributes = { [ATTRIBUTE.rpcSystem]: "grpc", [ATTRIBUTE.rpcMethod]: method }
    const span = this.#tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, parent)
    return {
      trace: new SpanTrace(trace.setSpan(parent, span)),
      traceId: span.spanContext().traceId,
      end: (code, reason) => endCall(span, code, reason),
    }
  }

  /**
   * Begins the span of a delivery of entries that were added under `traceparents`: a child of one of those spans, of a sampled one
   * where there is one, with links to the others. Undefined where none of them is any.
   */
  startDelivery(topic: string, traceparents: readonly string[]): DeliverySpan | undefined {
    const origins = [...new Set(traceparents)].flatMap((text) => parseTraceparent(text) ?? [])
    const [origin, ...others] = origins.sort((a, b) => b.traceFlags - a.traceFlags)
    if (origin === undefined) return undefined
    const parent = trace.setSpanContext(ROOT_CONTEXT, origin)
    const links = others.slice(0, MAX_LINKS).map((context) => ({ context }))
    const options = { kind: SpanKind.CONSUMER, attributes: { [ATTRIBUTE.topic]: topic }, links }
    const span = this.#tracer.startSpan(`outbox ${topic}`, options, parent)
    return {
      trace: new SpanTrace(trace.setSpan(parent, span)),
      end: (reason) => {
        if (reason !== undefined) fail(span, reason)
        span.end()
      },
    }
  }

  /** Begins the span of a store call under `parent`, which is one of this object's own. */
  startStoreCall(name: string, store: string, operation: string, parent: TraceContext): StoreSpan {
    const attributes = { [ATTRIBUTE.store]: store, [ATTRIBUTE.dbOperation]: operation }
    const span = this.#tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, contextOf(parent))
    return {
      end: (reason) => {
        if (reason !== undefined) fail(span, reason)
        span.end()
      },
    }
  }

  /** Sends what is left and stops. */
  shutdown(): Promise<void> {
    return this.#shutdown()
  }
}

function contextOf(parent: TraceContext): Context {
  return parent instanceof SpanTrace ? parent.context : ROOT_CONTEXT
}

function endCall(span: Span, code: number, reason: string | undefined): void {
  span.setAttribute(ATTRIBUTE.rpcStatus, code)
  // For a server only its own failures are errors; a caller's mistake is not.
  if (INTERNAL_CODES.has(code)) fail(span, reason ?? String(code))
  span.end()
}

function fail(span: Span, reason: string): void {
  span.setAttribute(ATTRIBUTE.errorType, reason)
  span.setStatus({ code: SpanStatusCode.ERROR })
}

/** Loads the SDK and starts exporting. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const [sdk, exporter, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-proto"),
    import("@opentelemetry/resources"),
  ])
  const url = `${options.endpoint.replace(/\/+$/, "")}/v1/traces`
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({
      "service.name": process.env.OTEL_SERVICE_NAME ?? "keelplane",
      "service.version": options.version,
    }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(options.sampleRatio) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new exporter.OTLPTraceExporter({ url }) })],
  })
  return new Tracing(provider.getTracer(TRACER, options.version), () => provider.shutdown())
}
