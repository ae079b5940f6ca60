/** EventService. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { appendBatch, checkStreamName } from "../domain/event/append-events.ts"
import { checkEventText } from "../domain/event/event-json.ts"
import type { EventLog } from "../domain/event/event-log.ts"
import { STREAM_FILTER_FIELDS, type StreamPage } from "../domain/event/event-store.ts"
import { readFeedPages, readStreamPages } from "../domain/event/read-events.ts"
import type { Clock } from "../domain/kernel/clock.ts"
import { notFound } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import {
  EventService as EventServiceDescriptor,
  type EventServiceSubscribeRequest,
  type GetSnapshotRequest,
  ReadDirection,
  type ReadFeedRequest,
  type ReadStreamRequest,
} from "../gen/keelplane/v1/event_service_pb.ts"
import { type CallContext, type Service, service } from "../rpc/handler.ts"
import {
  eventMessage,
  expectedOf,
  frameMessage,
  newEventOf,
  pointOf,
  revisionOf,
  snapshotMessage,
  sourceOf,
  startOf,
  streamMessage,
} from "./event-messages.ts"
import type { Pages } from "./paging.ts"
import { optionalTimeOf } from "./times.ts"

const PAGE = { defaultSize: 100, maxSize: 1000 }
const MAX_TRACE_PARENT_CHARS = 256

/** What {@link createEventService} needs. */
export interface EventServiceDeps {
  readonly events: EventLog
  readonly pages: Pages
  readonly clock: Clock
}

/** EventService over an event log. */
export function createEventService({ events, pages, clock }: EventServiceDeps): Service {
  const { store } = events
  return service(EventServiceDescriptor, {
    appendEvents: async (req, ctx) => {
      const traceParent = ctx.header("traceparent")?.slice(0, MAX_TRACE_PARENT_CHARS)
      const drafts = req.events.map((event, at) => newEventOf(event, `events[${at}]`, traceParent))
      const appended = await events.append(ctx, appendBatch(req.stream, expectedOf(req), drafts))
      return {
        firstRevision: appended.firstRevision,
        lastRevision: appended.lastRevision,
        eventIds: [...appended.eventIds],
        recordedTime: timestampFromMs(appended.recordedMs),
        repeated: appended.repeated,
      }
    },
    readStream: (req, ctx) => readStream(events, req, ctx),
    readFeed: (req, ctx) => readFeed(events, pages, req, ctx),
    subscribe: (req, ctx) => subscribe({ events, pages, clock }, req, ctx),
    getStreamState: async (req, ctx) => {
      checkStreamName(req.stream)
      const { state, revision, snapshotRevision } = await events.states.at(ctx, req.stream, pointOf(req))
      const recordedMs = await recordedAt(events, ctx, req.stream, revision)
      return {
        state,
        revision,
        snapshotRevision,
        recordedTime: recordedMs === undefined ? undefined : timestampFromMs(recordedMs),
      }
    },
    saveSnapshot: async (req, ctx) => {
      checkStreamName(req.stream)
      checkEventText(req.projection, "projection")
      const revision = revisionOf("revision", req.revision)
      const wanted = { stream: req.stream, projection: req.projection, revision }
      return { snapshot: snapshotMessage(await events.saveSnapshot(ctx, wanted, req.state)) }
    },
    getSnapshot: async (req, ctx) => ({ snapshot: snapshotMessage(await snapshotFor(events, req, ctx)) }),
    listStreams: async (req, ctx) => {
      checkEventText(req.category, "category")
      checkEventText(req.prefix, "prefix")
      const query = {
        category: req.category === "" ? undefined : req.category,
        prefix: req.prefix === "" ? undefined : req.prefix,
        filter: parseFilter(req.filter, STREAM_FILTER_FIELDS),
        showDeleted: req.showDeleted,
      }
      const page = await store.listStreams(ctx, query, pages.request(ctx, req, PAGE))
      return { streams: page.items.map(streamMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    truncateStream: async (req, ctx) => {
      checkStreamName(req.stream)
      const before = revisionOf("before_revision", req.beforeRevision)
      return { stream: streamMessage(await events.truncate(ctx, req.stream, before)) }
    },
    deleteStream: async (req, ctx) => {
      checkStreamName(req.stream)
      const ifRevision =
        req.ifRevisionMatch === undefined ? undefined : revisionOf("if_revision_match", req.ifRevisionMatch)
      return { stream: streamMessage(await store.deleteStream(ctx, req.stream, ifRevision)) }
    },
  })
}

async function snapshotFor({ store }: EventLog, req: GetSnapshotRequest, ctx: CallContext) {
  checkStreamName(req.stream)
  checkEventText(req.projection, "projection")
  const atOrBefore = req.atRevision === 0n ? undefined : revisionOf("at_revision", req.atRevision)
  const snapshot = await store.findSnapshot(ctx, req.stream, req.projection, atOrBefore)
  if (snapshot === undefined) throw notFound("snapshot", req.stream)
  return snapshot
}

async function recordedAt({ store }: EventLog, ctx: CallContext, stream: string, revision: bigint) {
  if (revision === 0n) return undefined
  const read = { stream, backwards: true, from: revision, types: [], limit: 1 }
  const { events } = await store.readStream(ctx, read)
  return events[0]?.revision === revision ? events[0].recordedMs : undefined
}

async function* readStream(events: EventLog, req: ReadStreamRequest, ctx: CallContext) {
  checkStreamName(req.stream)
  const range = {
    stream: req.stream,
    backwards: req.direction === ReadDirection.BACKWARDS,
    from: revisionOf("from_revision", req.fromRevision),
    limit: req.limit,
    untilMs: optionalTimeOf("until_time", req.untilTime),
  }
  for await (const page of readStreamPages(events.store, ctx, range)) yield streamPart(page)
}

function streamPart({ events, info }: StreamPage) {
  return { events: events.map(eventMessage), headRevision: info.head, firstRevision: info.first }
}

async function* readFeed({ store }: EventLog, pages: Pages, req: ReadFeedRequest, ctx: CallContext) {
  checkEventText(req.category, "category")
  for (const [at, type] of req.types.entries()) checkEventText(type, `types[${at}]`)
  const kind = `feed:${req.category}`
  const range = {
    category: req.category === "" ? undefined : req.category,
    types: req.types,
    fromMs: optionalTimeOf("from_time", req.fromTime),
    toMs: optionalTimeOf("to_time", req.toTime),
    after: req.resumeToken === "" ? undefined : pages.open(ctx, kind, req.resumeToken),
    limit: req.limit,
  }
  for await (const page of readFeedPages(store, ctx, range)) {
    yield {
      events: page.events.map(({ event }) => eventMessage(event)),
      resumeToken: pages.seal(ctx, kind, page.end),
    }
  }
}

async function* subscribe(
  { events, pages, clock }: EventServiceDeps,
  req: EventServiceSubscribeRequest,
  ctx: CallContext,
) {
  const source = sourceOf(req)
  if (source.kind === "stream") checkStreamName(source.stream)
  if (source.kind === "category") checkEventText(source.category, "category")
  for (const [at, type] of req.types.entries()) checkEventText(type, `types[${at}]`)
  const kind = JSON.stringify(source)
  const seal = (cursor: readonly string[]): string => pages.seal(ctx, kind, cursor)
  const start = startOf(req, (token) => pages.open(ctx, kind, token))
  for await (const frame of events.follow(ctx, { source, types: req.types, start }, seal)) {
    yield frameMessage(frame, seal(frame.cursor), clock.now())
  }
}
