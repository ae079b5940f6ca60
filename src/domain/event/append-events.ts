/** Turns what a caller wants to append into a batch that every engine can keep. */
import { invalidField, limitExceeded } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { structBytes } from "../kernel/json-size.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import { checkEventText, encodeJson } from "./event-json.ts"
import {
  type Append,
  type EventData,
  type EventDraft,
  type ExpectedRevision,
  MAX_APPEND_BYTES,
  MAX_APPEND_EVENTS,
  MAX_STREAM_NAME_BYTES,
} from "./event-model.ts"

/** An event as a caller gives it. */
export interface NewEvent {
  /** Empty: one is made. */
  readonly eventId: string
  readonly type: string
  readonly data?:
    | { readonly kind: "json"; readonly value: JsonObject }
    | { readonly kind: "binary"; readonly bytes: Uint8Array }
    | undefined
  /** Empty: by the kind of data. */
  readonly contentType: string
  readonly metadata?: JsonObject | undefined
  readonly correlationId: string
  readonly causationId: string
  readonly occurredMs?: number | undefined
  readonly statePatch?: JsonObject | undefined
  readonly traceParent: string
}

/** What an event takes besides its texts and documents: id, revision, times, tags and lengths. */
const EVENT_OVERHEAD_BYTES = 128

/** Throws INVALID_FIELD where a stream's name cannot be one. */
export function checkStreamName(stream: string, field = "stream"): void {
  const bytes = Buffer.byteLength(stream)
  if (bytes === 0 || bytes > MAX_STREAM_NAME_BYTES) {
    throw invalidField(field, `must have 1 to ${MAX_STREAM_NAME_BYTES} bytes`)
  }
  checkEventText(stream, field)
}

/** The batch. Throws INVALID_FIELD or LIMIT_EXCEEDED naming the event. */
export function appendBatch(stream: string, expected: ExpectedRevision, events: readonly NewEvent[]): Append {
  checkStreamName(stream)
  if (events.length === 0) throw invalidField("events", "must have at least one event")
  if (events.length > MAX_APPEND_EVENTS) throw limitExceeded("events", events.length, MAX_APPEND_EVENTS)
  const drafts = events.map((event, at) => draftOf(event, stream, `events[${at}]`))
  const bytes = drafts.reduce((sum, { size }) => sum + size, 0)
  if (bytes > MAX_APPEND_BYTES) throw limitExceeded("events", bytes, MAX_APPEND_BYTES)
  const seen = new Set<string>()
  for (const [at, { eventId }] of drafts.entries()) {
    if (seen.has(eventId)) throw invalidField(`events[${at}].event_id`, "appears twice in the batch")
    seen.add(eventId)
  }
  return { stream, expected, events: drafts }
}

function draftOf(event: NewEvent, stream: string, path: string): EventDraft {
  const { type, correlationId, causationId, traceParent, occurredMs } = event
  const contentType = contentTypeOf(event)
  const texts = { type, content_type: contentType, correlation_id: correlationId, causation_id: causationId }
  for (const [name, text] of Object.entries(texts)) checkEventText(text, `${path}.${name}`)
  checkEventText(traceParent, `${path}.trace_parent`)
  const data = dataOf(event, path)
  const metadata = optionalJson(event.metadata, `${path}.metadata`)
  const statePatch = optionalJson(event.statePatch, `${path}.state_patch`)
  const size =
    EVENT_OVERHEAD_BYTES +
    (data?.kind === "binary" ? data.bytes.byteLength : 0) +
    (event.data?.kind === "json"
      ? documentBytes(event.data.value, data?.kind === "json" ? data.text : undefined)
      : 0) +
    documentBytes(event.metadata, metadata) +
    documentBytes(event.statePatch, statePatch) +
    [stream, traceParent, ...Object.values(texts)].reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  return {
    eventId: event.eventId === "" ? uuid7() : event.eventId.toLowerCase(),
    idGiven: event.eventId !== "",
    type,
    data,
    contentType,
    metadata,
    statePatch,
    correlationId,
    causationId,
    traceParent,
    occurredMs,
    size,
  }
}

function contentTypeOf({ contentType, data }: NewEvent): string {
  if (data === undefined) return ""
  if (contentType !== "") return contentType
  return data.kind === "json" ? "application/json" : "application/octet-stream"
}

function dataOf({ data }: NewEvent, path: string): EventData | undefined {
  if (data?.kind !== "json") return data
  return { kind: "json", text: encodeJson(data.value, `${path}.json`, MAX_APPEND_BYTES) }
}

function optionalJson(document: JsonObject | undefined, field: string): string | undefined {
  return document === undefined ? undefined : encodeJson(document, field, MAX_APPEND_BYTES)
}

/** Neither form is always the larger: control characters grow as JSON, short numbers as protobuf. */
function documentBytes(document: JsonObject | undefined, text: string | undefined): number {
  if (document === undefined || text === undefined) return 0
  return Math.max(Buffer.byteLength(text), structBytes(document))
}
