import { createTraceState, type SpanContext, TraceFlags } from "@opentelemetry/api"

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const LONGEST_STATE = 512

/** Reads W3C trace context; undefined for anything malformed, which then begins a trace of its own. */
export function parseTraceparent(
  traceparent: string | undefined,
  tracestate?: string | undefined,
): SpanContext | undefined {
  if (traceparent === undefined || traceparent.length > 128) return undefined
  const match = TRACEPARENT.exec(traceparent)
  if (match === null) return undefined
  const [, version = "", traceId = "", spanId = "", flags = "", rest] = match
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return {
    traceId,
    spanId,
    isRemote: true,
    traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED,
    ...(tracestate === undefined || tracestate.length > LONGEST_STATE
      ? {}
      : { traceState: createTraceState(tracestate) }),
  }
}
