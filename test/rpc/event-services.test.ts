/** EventService and SessionService by gRPC, from the wire to SQL. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { fromJson } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect"
import { createGrpcTransport } from "@connectrpc/connect-node"
import { EventLog } from "../../src/domain/event/event-log.ts"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import {
  AppendEventsRequestSchema,
  EventService,
  type EventServiceSubscribeResponse,
  ReadDirection,
} from "../../src/gen/keelplane/v1/event_service_pb.ts"
import {
  MessageOrder,
  MessageRole,
  SessionService,
  SessionStatus,
} from "../../src/gen/keelplane/v1/session_service_pb.ts"
import { createServer, type RpcServer } from "../../src/rpc/server.ts"
import { createEventService } from "../../src/services/event-service.ts"
import { Pages } from "../../src/services/paging.ts"
import { createSessionService } from "../../src/services/session-service.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresSessionStore } from "../../src/stores/postgres/session-store.ts"
import { embeddedDatabase } from "../engines/pglite.ts"

describe("event and session services", { timeout: 120_000 }, () => {
  let engine: SqlEngine
  let server: RpcServer
  let transport: Transport
  let log: EventLog
  before(async () => {
    engine = await embeddedDatabase()
    const pages = new Pages(new Uint8Array(32).fill(7))
    const options = { clock: systemClock, concurrency: 1 }
    log = new EventLog(createPostgresEventStore(engine.database, options))
    const sessions = createPostgresSessionStore(engine.database, options)
    const silent = () => {}
    server = createServer({
      services: [
        createEventService({ events: log, pages, clock: systemClock }),
        createSessionService({ sessions, pages }),
      ],
      listen: { tcp: { host: "127.0.0.1", port: 0 } },
      logger: { info: silent, warn: silent, error: silent },
    })
    const { tcp } = await server.start()
    transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${tcp?.port}` })
  })
  after(async () => {
    await server.stop()
    await engine.close()
  })

  it("appends from JSON and reads back both ways, with the call's trace", async () => {
    const events = createClient(EventService, transport)
    const request = fromJson(AppendEventsRequestSchema, {
      stream: "run-1",
      noStream: true,
      events: [
        { type: "asked", json: { q: "why", n: [1, null] }, statePatch: { turn: 1, open: { a: true } } },
        {
          type: "answered",
          binary: "AP8=",
          contentType: "image/png",
          metadata: { m: 1 },
          correlationId: "c",
        },
        {
          eventId: "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
          type: "closed",
          statePatch: { open: null },
          occurredTime: "2020-01-01T00:00:00.123Z",
        },
      ],
    })
    const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    const appended = await events.appendEvents(request, { headers: { traceparent: trace } })
    assert.equal(appended.firstRevision, 1n)
    assert.equal(appended.lastRevision, 3n)
    assert.equal(appended.eventIds[2], "6f9619ff-8b86-d011-b42d-00cf4fc964ff")
    const read = await all(events.readStream({ stream: "run-1", direction: ReadDirection.BACKWARDS }))
    const [third, second, first] = read.flatMap((part) => part.events)
    assert.deepEqual(first?.data, { case: "json", value: { q: "why", n: [1, null] } })
    assert.deepEqual(first?.statePatch, { turn: 1, open: { a: true } })
    assert.equal(first?.traceParent, trace)
    assert.deepEqual(second?.data, { case: "binary", value: Uint8Array.of(0, 255) })
    assert.equal(second?.contentType, "image/png")
    assert.deepEqual(third?.occurredTime, timestampFromMs(Date.parse("2020-01-01T00:00:00.123Z")))
    assert.deepEqual(third?.statePatch, { open: null })
    const state = await events.getStreamState({ stream: "run-1" })
    assert.deepEqual(state.state, { turn: 1 })
    assert.deepEqual(state.recordedTime, third?.recordedTime)
    const earlier = await events.getStreamState({ stream: "run-1", point: { case: "atRevision", value: 1n } })
    assert.deepEqual(earlier.state, { turn: 1, open: { a: true } })
  })

  it("says what the current revision is when a race is lost", async () => {
    const events = createClient(EventService, transport)
    const append = (expected: bigint) =>
      events.appendEvents({
        stream: "raced",
        expected: { case: "revision", value: expected },
        events: [{ type: "t" }],
      })
    await append(0n)
    await append(1n)
    const info = await fails(append(1n), Code.Aborted, "REVISION_MISMATCH")
    assert.equal(info.metadata.expected, "1")
    assert.equal(info.metadata.actual, "2")
    await fails(append(2n ** 64n - 1n), Code.InvalidArgument, "INVALID_FIELD")
  })

  it("replays an append by request_id and refuses another body", async () => {
    const events = createClient(EventService, transport)
    const request = { stream: "replayed", events: [{ type: "t" }], requestId: "r" }
    const first = await events.appendEvents(request)
    assert.deepEqual(await events.appendEvents(request), first)
    const other = { ...request, events: [{ type: "u" }] }
    await fails(events.appendEvents(other), Code.InvalidArgument, "REQUEST_ID_REUSED")
  })

  it("follows from history into live and resumes by token; a token fits only its own source", async () => {
    const events = createClient(EventService, transport)
    const append = () => events.appendEvents({ stream: "live-1", events: [{ type: "t" }] })
    await append()
    const source = { case: "category" as const, value: "live" }
    const frames: EventServiceSubscribeResponse[] = []
    const ended = new AbortController()
    const { signal } = ended
    for await (const frame of events.subscribe({ source }, { signal })) {
      frames.push(frame)
      if (frame.frame.case === "caughtUp") await append()
      if (frame.frame.case === "event" && frame.frame.value.revision === 2n) break
    }
    assert.deepEqual(
      frames.map(({ frame }) => frame.case),
      ["event", "caughtUp", "event"],
    )
    const value = frames[0]?.resumeToken ?? ""
    const start = { case: "resumeToken" as const, value }
    for await (const { frame } of events.subscribe({ source, start }, { signal })) {
      assert.equal(frame.case === "event" ? frame.value.revision : undefined, 2n)
      break
    }
    await fails(all(events.subscribe({ start })), Code.InvalidArgument, "INVALID_RESUME_TOKEN")
    const forged = { case: "resumeToken" as const, value: `${value.slice(0, -2)}AA` }
    await fails(
      all(events.subscribe({ source, start: forged })),
      Code.InvalidArgument,
      "INVALID_RESUME_TOKEN",
    )
    const revision = { case: "fromRevision" as const, value: 1n }
    await fails(all(events.subscribe({ start: revision })), Code.InvalidArgument, "INVALID_FIELD")
    ended.abort()
    while (log.followers > 0) await new Promise((resolve) => setImmediate(resolve))
  })

  it("reads the feed in parts that go on where the last ended", async () => {
    const events = createClient(EventService, transport)
    for (let n = 0; n < 5; n++)
      await events.appendEvents({ stream: `feed-${n % 2}`, events: [{ type: "t" }] })
    const seen: string[] = []
    let resumeToken = ""
    for (let round = 0; round < 4; round++) {
      for (const part of await all(events.readFeed({ category: "feed", limit: 2n, resumeToken }))) {
        seen.push(...part.events.map(({ stream, revision }) => `${stream}@${revision}`))
        resumeToken = part.resumeToken
      }
    }
    assert.deepEqual(seen.toSorted(), ["feed-0@1", "feed-0@2", "feed-0@3", "feed-1@1", "feed-1@2"])
    await fails(
      all(events.readFeed({ category: "f", resumeToken })),
      Code.InvalidArgument,
      "INVALID_RESUME_TOKEN",
    )
  })

  it("lists, snapshots, truncates and deletes streams", async () => {
    const events = createClient(EventService, transport)
    for (const stream of ["z-1", "z-2", "z-3"]) {
      await events.appendEvents({ stream, events: [{ type: "t", statePatch: { stream } }, { type: "t" }] })
    }
    const page = await events.listStreams({ category: "z", filter: "revision = 2", pageSize: 2 })
    assert.deepEqual(
      page.streams.map(({ stream }) => stream),
      ["z-1", "z-2"],
    )
    const { nextPageToken: pageToken } = page
    const rest = await events.listStreams({ category: "z", filter: "revision = 2", pageSize: 2, pageToken })
    assert.deepEqual(
      rest.streams.map(({ stream }) => stream),
      ["z-3"],
    )
    assert.equal(rest.nextPageToken, "")
    const saved = await events.saveSnapshot({ stream: "z-1", projection: "mine", state: { n: 1 } })
    assert.equal(saved.snapshot?.revision, 2n)
    assert.deepEqual(
      (await events.getSnapshot({ stream: "z-1", projection: "mine" })).snapshot,
      saved.snapshot,
    )
    await fails(events.getSnapshot({ stream: "z-1", projection: "none" }), Code.NotFound, "NOT_FOUND")
    const cut = { stream: "z-1", beforeRevision: 3n, requestId: "cut" }
    const { stream: truncated } = await events.truncateStream(cut)
    assert.equal(truncated?.firstRevision, 3n)
    assert.deepEqual((await events.getStreamState({ stream: "z-1" })).state, { stream: "z-1" })
    const { stream: tombstone } = await events.deleteStream({ stream: "z-1", requestId: "gone" })
    assert.equal(tombstone?.deleted, true)
    assert.deepEqual((await events.truncateStream(cut)).stream, truncated)
    const again = events.appendEvents({ stream: "z-1", events: [{ type: "t" }] })
    await fails(again, Code.FailedPrecondition, "STREAM_DELETED")
    await fails(all(events.readStream({ stream: "z-1" })), Code.FailedPrecondition, "STREAM_DELETED")
    const kept = events.getSnapshot({ stream: "z-1", projection: "mine" })
    await fails(kept, Code.FailedPrecondition, "STREAM_DELETED")
  })

  it("refuses bad appends with the field at fault", async () => {
    const events = createClient(EventService, transport)
    const bad = [
      { stream: "", events: [{ type: "t" }] },
      { stream: "s", events: [] },
      { stream: "s", events: [{ type: "" }] },
      { stream: "s\0", events: [{ type: "t" }] },
      { stream: "é".repeat(129), events: [{ type: "t" }] },
      { stream: "s", events: [{ type: "t", eventId: "no uuid" }] },
      { stream: "s", events: [{ type: "t", occurredTime: { seconds: 10n ** 17n } }] },
      {
        stream: "s",
        events: [1, 2].map(() => ({ type: "t", eventId: "6f9619ff-8b86-d011-b42d-00cf4fc964ff" })),
      },
      { stream: "s", events: Array.from({ length: 101 }, () => ({ type: "t" })) },
    ]
    for (const request of bad)
      await fails(events.appendEvents(request), Code.InvalidArgument, "INVALID_FIELD")
    const binary = { case: "binary" as const, value: new Uint8Array(600_000) }
    const large = { stream: "s", events: [1, 2].map(() => ({ type: "t", data: binary })) }
    await fails(events.appendEvents(large), Code.InvalidArgument, "LIMIT_EXCEEDED")
    await fails(all(events.readStream({ stream: "s" })), Code.NotFound, "NOT_FOUND")
  })

  it("takes times up to the last nanosecond of the year 9999", async () => {
    const events = createClient(EventService, transport)
    const last = { seconds: 253_402_300_799n, nanos: 999_999_999 }
    await events.appendEvents({ stream: "late", events: [{ type: "t", occurredTime: last }] })
    const [part] = await all(events.readStream({ stream: "late", untilTime: last }))
    assert.deepEqual(
      part?.events.map(({ occurredTime }) => occurredTime),
      [timestampFromMs(253_402_300_799_999)],
    )
  })

  it("reads back everything it takes, however much JSON grows on the wire", async () => {
    const events = createClient(EventService, transport)
    const zeros = (count: number) => ({ z: Array.from({ length: count }, () => 0) })
    const json = (count: number) => ({ type: "t", data: { case: "json" as const, value: zeros(count) } })
    const stream = "weighed-1"
    for (const event of [
      json(340_000),
      { type: "t", metadata: zeros(100_000) },
      { type: "t", statePatch: zeros(100_000) },
    ]) {
      await fails(events.appendEvents({ stream, events: [event] }), Code.InvalidArgument, "LIMIT_EXCEEDED")
    }
    for (let n = 0; n < 5; n++) await events.appendEvents({ stream, events: [json(95_000)] })
    const small = { type: "t", metadata: zeros(900) }
    await events.appendEvents({ stream, events: Array.from({ length: 100 }, () => small) })
    const revisions = (parts: readonly { events: readonly { revision: bigint }[] }[]) =>
      parts.flatMap((part) => part.events.map(({ revision }) => revision))
    assert.equal(revisions(await all(events.readStream({ stream }))).length, 105)
    const backwards = events.readStream({ stream, direction: ReadDirection.BACKWARDS })
    assert.equal(revisions(await all(backwards)).length, 105)
    assert.equal(revisions(await all(events.readFeed({ category: "weighed" }))).length, 105)
  })

  it("answers every state that fits into an answer and says which do not", async () => {
    const events = createClient(EventService, transport)
    const zeros = (count: number) => Array.from({ length: count }, () => 0)
    const stream = "states-1"
    const patch = (key: string) =>
      events.appendEvents({ stream, events: [{ type: "t", statePatch: { [key]: zeros(94_000) } }] })
    for (const key of ["a", "b", "c"]) await patch(key)
    const { state } = await events.getStreamState({ stream })
    assert.deepEqual(Object.keys(state ?? {}), ["a", "b", "c"])
    await events.saveSnapshot({ stream })
    assert.deepEqual((await events.getSnapshot({ stream })).snapshot?.state, state)
    await patch("d")
    const refused = await fails(events.getStreamState({ stream }), Code.InvalidArgument, "LIMIT_EXCEEDED")
    assert.equal(refused.metadata.limit, "state")
    const save = (count: number) =>
      events.saveSnapshot({ stream, projection: "p", state: { z: zeros(count) } })
    await fails(save(290_000), Code.InvalidArgument, "LIMIT_EXCEEDED")
    const { snapshot } = await save(285_000)
    assert.deepEqual((await events.getSnapshot({ stream, projection: "p" })).snapshot, snapshot)
    await events.appendEvents({ stream, events: [{ type: "t", statePatch: { b: null } }] })
    assert.deepEqual(Object.keys((await events.getStreamState({ stream })).state ?? {}), ["a", "c", "d"])
  })

  it("leads a session from beginning to end", async () => {
    const sessions = createClient(SessionService, transport)
    const { session } = await sessions.createSession({
      session: { agentId: "a", userId: "u", metadata: { lang: "ts" }, state: { step: 1, tmp: true } },
    })
    const sessionId = session?.sessionId ?? ""
    assert.match(sessionId, /^[0-9a-f-]{36}$/)
    assert.equal(session?.status, SessionStatus.ACTIVE)
    assert.equal(session?.expiration.case, "expireTime")
    const text = (value: string) => ({
      role: MessageRole.USER,
      content: [{ part: { case: "text" as const, value } }],
    })
    const media = { mimeType: "image/png", source: { case: "data" as const, value: Uint8Array.of(1, 2) } }
    const reply = {
      role: MessageRole.ASSISTANT,
      content: [{ part: { case: "media" as const, value: media } }],
      toolCalls: [{ toolCallId: "1", name: "now", arguments: { zone: "utc" } }],
      tokens: { input: 10n, output: 2n },
    }
    const messages = [text("1"), reply, text("3")]
    const appended = await sessions.appendMessages({
      sessionId,
      messages,
      ifRevisionMatch: 0n,
      requestId: "m",
    })
    assert.equal(appended.messageRevision, 3n)
    const lost = sessions.appendMessages({ sessionId, messages: [text("x")], ifRevisionMatch: 1n })
    await fails(lost, Code.Aborted, "REVISION_MISMATCH")
    const last = await sessions.listMessages({ sessionId, last: 2 })
    assert.deepEqual(
      last.messages.map(({ sequence }) => sequence),
      [2n, 3n],
    )
    assert.deepEqual(last.messages[0]?.toolCalls[0]?.arguments, { zone: "utc" })
    assert.deepEqual(Buffer.from(partBytes(last.messages[0]?.content[0]?.part)), Buffer.of(1, 2))
    const page = await sessions.listMessages({ sessionId, order: MessageOrder.NEWEST_FIRST, pageSize: 2 })
    assert.deepEqual(
      page.messages.map(({ sequence }) => sequence),
      [3n, 2n],
    )
    await fails(
      sessions.listMessages({ sessionId, last: 2, pageSize: 2 }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    )
    const patched = await sessions.updateSession({
      session: { sessionId },
      statePatch: { tmp: null, step: 2 },
    })
    assert.deepEqual(patched.session?.state, { step: 2 })
    const titled = {
      session: { sessionId, title: "T", metadata: { x: 1 } },
      updateMask: { paths: ["title"] },
    }
    assert.deepEqual((await sessions.updateSession(titled)).session?.metadata, { lang: "ts" })
    const wrong = { session: { sessionId }, updateMask: { paths: ["status"] } }
    await fails(sessions.updateSession(wrong), Code.InvalidArgument, "INVALID_FIELD")
    await fails(sessions.updateSession({ session: { sessionId } }), Code.InvalidArgument, "INVALID_FIELD")
    const ended = await sessions.endSession({ sessionId, reason: "done" })
    assert.equal(ended.session?.status, SessionStatus.ENDED)
    assert.deepEqual(ended.session?.totalTokens?.output, 2n)
    const late = sessions.appendMessages({ sessionId, messages: [text("x")] })
    await fails(late, Code.FailedPrecondition, "SESSION_ENDED")
    const found = await sessions.listSessions({
      agentId: "a",
      filter: 'metadata.lang = "ts" AND status = "ended"',
    })
    assert.deepEqual(
      found.sessions.map((each) => each.sessionId),
      [sessionId],
    )
  })

  it("refuses bad sessions and messages with the field at fault", async () => {
    const sessions = createClient(SessionService, transport)
    await fails(sessions.createSession({}), Code.InvalidArgument, "INVALID_FIELD")
    const create = (session: object) => sessions.createSession({ session })
    await fails(create({ sessionId: "a\0" }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(create({ metadata: { a: "\0" } }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(create({ metadata: { a: "x".repeat(65_536) } }), Code.InvalidArgument, "LIMIT_EXCEEDED")
    const past = { expiration: { case: "expireTime", value: timestampFromMs(1) } }
    await fails(create(past), Code.InvalidArgument, "INVALID_FIELD")
    await fails(
      create({ expiration: { case: "ttl", value: { seconds: 0n } } }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    )
    const { session } = await create({ state: { nul: "\0" } })
    assert.deepEqual(session?.state, { nul: "\0" })
    const sessionId = session?.sessionId ?? ""
    const append = (message: object) => sessions.appendMessages({ sessionId, messages: [message] })
    await fails(append({ role: 0 }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(append({ role: 1 }), Code.InvalidArgument, "INVALID_FIELD")
    const fixed = sessions.updateSession({ session: { sessionId, agentId: "other" } })
    await fails(fixed, Code.InvalidArgument, "INVALID_FIELD")
    await assert.rejects(fixed, /title, metadata, state, expire_time, ttl/)
    await fails(append({ role: 9 }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(append({ role: 1, content: [{}] }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(append({ role: 1, tokens: { input: -1n } }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(sessions.listSessions({ filter: "nope = 1" }), Code.InvalidArgument, "INVALID_FILTER")
    await fails(sessions.listSessions({ pageToken: "forged" }), Code.InvalidArgument, "INVALID_PAGE_TOKEN")
    await fails(sessions.getSession({ sessionId: "absent" }), Code.NotFound, "NOT_FOUND")
  })
})

function partBytes(part: { case?: string | undefined; value?: unknown } | undefined): Uint8Array {
  const media = part?.value as { source?: { value?: unknown } } | undefined
  return media?.source?.value instanceof Uint8Array ? media.source.value : new Uint8Array()
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const parts: T[] = []
  for await (const part of stream) parts.push(part)
  return parts
}

async function fails(call: Promise<unknown>, code: Code, reason: Reason) {
  try {
    await call
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error))
    const [info] = error.findDetails(ErrorInfoSchema)
    assert.equal(info?.reason, reason, error.message)
    assert.equal(error.code, code, error.message)
    return info ?? { metadata: {} as Record<string, string> }
  }
  throw new assert.AssertionError({ message: `expected ${reason}, but the call succeeded` })
}
