/** Events, streams and snapshots as messages. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { NewEvent } from "../domain/event/append-events.ts"
import { decodeJson } from "../domain/event/event-json.ts"
import type { ExpectedRevision, Snapshot, StoredEvent, StreamInfo } from "../domain/event/event-model.ts"
import { categoryOf } from "../domain/event/event-model.ts"
import type { EventSource } from "../domain/event/event-signals.ts"
import type { FollowFrame, FollowStart } from "../domain/event/follow-events.ts"
import type { StatePoint } from "../domain/event/stream-state.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import type {
  AppendEventsRequest,
  EventSchema,
  EventServiceSubscribeRequest,
  EventServiceSubscribeResponseSchema,
  GetStreamStateRequest,
  NewEventSchema,
  StreamSchema,
  StreamSnapshotSchema,
} from "../gen/keelplane/v1/event_service_pb.ts"
import { optionalTimeOf, timeMessage, timeOf } from "./times.ts"

/** Largest number that a revision can have: PostgreSQL's bigint. */
const MAX_REVISION = 9_223_372_036_854_775_807n

/** A revision of a request. Throws INVALID_FIELD where no event can have it. */
export function revisionOf(field: string, revision: bigint): bigint {
  if (revision >= MAX_REVISION) throw invalidField(field, "must be below 2^63 - 1")
  return revision
}

/** An event to append; `path` is where it is in the request. */
export function newEventOf(
  event: MessageShape<typeof NewEventSchema>,
  path: string,
  traceParent: string | undefined,
): NewEvent {
  return {
    eventId: event.eventId,
    type: event.type,
    data: dataOf(event.data),
    contentType: event.contentType,
    metadata: event.metadata,
    correlationId: event.correlationId,
    causationId: event.causationId,
    occurredMs: optionalTimeOf(`${path}.occurred_time`, event.occurredTime),
    statePatch: event.statePatch,
    traceParent: event.traceParent === "" ? (traceParent ?? "") : event.traceParent,
  }
}

function dataOf(data: MessageShape<typeof NewEventSchema>["data"]): NewEvent["data"] {
  switch (data.case) {
    case "json":
      return { kind: "json", value: data.value }
    case "binary":
      return { kind: "binary", bytes: data.value }
    default:
      return undefined
  }
}

/** What the caller expects of the stream. */
export function expectedOf({ expected }: AppendEventsRequest): ExpectedRevision {
  switch (expected.case) {
    case "revision":
      return { kind: "revision", revision: revisionOf("revision", expected.value) }
    case "noStream":
      return { kind: "no_stream" }
    case "streamExists":
      return { kind: "stream_exists" }
    default:
      return { kind: "any" }
  }
}

/** An event as callers see it. */
export function eventMessage(event: StoredEvent): MessageInitShape<typeof EventSchema> {
  return {
    stream: event.stream,
    revision: event.revision,
    eventId: event.eventId,
    type: event.type,
    data: dataMessage(event),
    contentType: event.contentType,
    metadata: event.metadata === undefined ? undefined : decodeJson(event.metadata),
    correlationId: event.correlationId,
    causationId: event.causationId,
    occurredTime: timestampFromMs(event.occurredMs),
    recordedTime: timestampFromMs(event.recordedMs),
    statePatch: event.statePatch === undefined ? undefined : decodeJson(event.statePatch),
    traceParent: event.traceParent,
  }
}

function dataMessage({ data }: StoredEvent): MessageInitShape<typeof EventSchema>["data"] {
  if (data === undefined) return { case: undefined }
  if (data.kind === "json") return { case: "json", value: decodeJson(data.text) }
  return { case: "binary", value: new Uint8Array(data.bytes) }
}

/** A stream as callers see it. */
export function streamMessage(info: StreamInfo): MessageInitShape<typeof StreamSchema> {
  return {
    stream: info.stream,
    category: categoryOf(info.stream),
    revision: info.head,
    firstRevision: info.first,
    createTime: timestampFromMs(info.createdMs),
    updateTime: timestampFromMs(info.recordedMs),
    deleted: info.deletedMs !== undefined,
    deleteTime: timeMessage(info.deletedMs),
  }
}

/** A snapshot as callers see it. */
export function snapshotMessage(snapshot: Snapshot): MessageInitShape<typeof StreamSnapshotSchema> {
  return {
    stream: snapshot.stream,
    projection: snapshot.projection,
    revision: snapshot.revision,
    state: decodeJson(snapshot.state),
    createTime: timestampFromMs(snapshot.createdMs),
  }
}

/** What to follow. */
export function sourceOf({ source }: EventServiceSubscribeRequest): EventSource {
  switch (source.case) {
    case "stream":
      return { kind: "stream", stream: source.value }
    case "category":
      return { kind: "category", category: source.value }
    default:
      return { kind: "all" }
  }
}

/** Where to begin; `open` turns a token into its cursor. */
export function startOf(
  request: EventServiceSubscribeRequest,
  open: (token: string) => readonly string[],
): FollowStart {
  const { start, source } = request
  switch (start.case) {
    case "fromNow":
      return { kind: "now" }
    case "fromRevision":
      if (source.case !== "stream") throw invalidField("from_revision", "needs a stream as the source")
      return { kind: "revision", revision: revisionOf("from_revision", start.value) }
    case "resumeToken":
      return { kind: "resume", cursor: open(start.value) }
    default:
      return { kind: "beginning" }
  }
}

/** A frame as callers see it. */
export function frameMessage(
  frame: FollowFrame,
  resumeToken: string,
  now: number,
): MessageInitShape<typeof EventServiceSubscribeResponseSchema> {
  return { frame: frameOf(frame), resumeToken, serverTime: timestampFromMs(now) }
}

type FrameInit = MessageInitShape<typeof EventServiceSubscribeResponseSchema>["frame"]

function frameOf(frame: FollowFrame): FrameInit {
  switch (frame.kind) {
    case "event":
      return { case: "event", value: eventMessage(frame.event) }
    case "caught_up":
      return { case: "caughtUp", value: {} }
    case "fell_behind":
      return { case: "fellBehind", value: {} }
    case "checkpoint":
      return { case: "checkpoint", value: {} }
    case "heartbeat":
      return { case: "heartbeat", value: {} }
  }
}

/** The point of a stream whose state is wanted. */
export function pointOf({ point }: GetStreamStateRequest): StatePoint {
  switch (point.case) {
    case "atRevision":
      return { kind: "revision", revision: revisionOf("at_revision", point.value) }
    case "atTime":
      return { kind: "time", ms: timeOf("at_time", point.value) }
    default:
      return { kind: "head" }
  }
}
