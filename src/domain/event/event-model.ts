/** Event streams as the domain sees them. JSON documents travel as text, encoded once, so that no engine changes them. */

/** Most events in one append. */
export const MAX_APPEND_EVENTS = 100
/** Most bytes in one append, over all events: the larger of JSON and protobuf. */
export const MAX_APPEND_BYTES = 1_048_576
/** Largest state of a stream or a projection, as a protobuf message: it has to fit into an answer. */
export const MAX_STATE_BYTES = 3_145_728
/** Longest stream name in UTF-8 bytes. */
export const MAX_STREAM_NAME_BYTES = 256

/** What the stream must be like for an append. `revision` 0 is the same as `no_stream`. */
export type ExpectedRevision =
  | { readonly kind: "any" }
  | { readonly kind: "no_stream" }
  | { readonly kind: "stream_exists" }
  | { readonly kind: "revision"; readonly revision: bigint }

/** An event's payload: the text of a JSON object, or bytes. */
export type EventData =
  | { readonly kind: "json"; readonly text: string }
  | { readonly kind: "binary"; readonly bytes: Uint8Array }

/** What an event is made of, whether it is kept already or not. */
export interface EventContent {
  /** UUID, lower case. */
  readonly eventId: string
  readonly type: string
  readonly data?: EventData | undefined
  /** Empty without payload. */
  readonly contentType: string
  /** Text of a JSON object. */
  readonly metadata?: string | undefined
  /** Text of a JSON merge patch, an object. */
  readonly statePatch?: string | undefined
  readonly correlationId: string
  readonly causationId: string
  /** W3C traceparent or empty. */
  readonly traceParent: string
}

/** An event ready to be appended. */
export interface EventDraft extends EventContent {
  /** Whether the caller chose eventId; ids made by the daemon need not be looked up. */
  readonly idGiven: boolean
  /** Milliseconds since the epoch; undefined: when it is recorded. */
  readonly occurredMs?: number | undefined
  /** Bytes as JSON or as a protobuf message, whichever are more; never less than what the event takes in an answer. */
  readonly size: number
}

/** An event as it is kept. */
export interface StoredEvent extends EventContent {
  readonly stream: string
  /** The first event of a stream has 1, every next one exactly one more. */
  readonly revision: bigint
  readonly occurredMs: number
  readonly recordedMs: number
}

/** A batch for one stream; all or nothing. */
export interface Append {
  readonly stream: string
  readonly expected: ExpectedRevision
  /** 1 to {@link MAX_APPEND_EVENTS}, ids distinct. */
  readonly events: readonly EventDraft[]
}

/** Where a batch is. */
export interface Appended {
  readonly firstRevision: bigint
  readonly lastRevision: bigint
  readonly eventIds: readonly string[]
  readonly recordedMs: number
  /** True where the events were there already. */
  readonly repeated: boolean
}

/** What is known about a stream. */
export interface StreamInfo {
  readonly stream: string
  readonly category: string
  /** Revision of the last event. */
  readonly head: bigint
  /** Revision of the oldest event that can be read; head + 1 where there is none. */
  readonly first: bigint
  readonly createdMs: number
  /** When the last event was recorded. */
  readonly recordedMs: number
  /** Set where only the tombstone is left. */
  readonly deletedMs?: number | undefined
}

/** A state kept at a revision. */
export interface Snapshot {
  readonly stream: string
  /** Empty for the stream's own state. */
  readonly projection: string
  readonly revision: bigint
  /** Text of a JSON object. */
  readonly state: string
  readonly createdMs: number
}

/** A place in the feed, after some event. Only the engine that made it can read it. */
export type FeedCursor = readonly string[]

/** The category of a stream: the part before the first `-`, or the whole name. */
export function categoryOf(stream: string): string {
  const dash = stream.indexOf("-")
  return dash === -1 ? stream : stream.slice(0, dash)
}
