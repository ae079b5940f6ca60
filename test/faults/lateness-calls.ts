/** Unary calls of every service that touches an engine, for deadlines that a store lets pass. */
import { AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { BillingService } from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import { CacheService, ListEnd } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { RateLimitService } from "../../src/gen/keelplane/v1/rate_limit_service_pb.ts"
import { SessionService } from "../../src/gen/keelplane/v1/session_service_pb.ts"
import type { CallOptions, Channel } from "../support/grpc-client.ts"
import { COLLECTION, vector } from "./callers.ts"

/** One call; `id` is new each time. */
export type TimedCall = (channel: Channel, id: string, options: CallOptions) => Promise<unknown>

/** Calls by the name of their RPC. */
export type TimedCalls = Readonly<Record<string, TimedCall>>

const target = { case: "vector" as const, value: vector() }
const text = (value: string) => ({ case: "text", value }) as const

const recordsOf = (collectionId: string): TimedCalls => ({
  GetRecords: (channel, id, options) =>
    channel.stub(MemoryService).getRecords({ collectionId, ids: [id] }, options),
  UpsertRecords: (channel, id, options) =>
    channel.stub(MemoryService).upsertRecords({ collectionId, records: [{ id, vector: vector() }] }, options),
  Search: (channel, _, options) =>
    channel.stub(MemoryService).search({ collectionId, query: { target } }, options),
})

/** Of memory. */
export const RECORDS: TimedCalls = recordsOf(COLLECTION)

/** The collection that a vector store has alone. */
export const DIRECT = "direct"

/** Of it. */
export const DIRECT_RECORDS: TimedCalls = {
  ...recordsOf(DIRECT),
  ListRecords: (channel, _, options) =>
    channel.stub(MemoryService).listRecords({ collectionId: DIRECT }, options),
  DeleteRecords: (channel, id, options) =>
    channel
      .stub(MemoryService)
      .deleteRecords({ collectionId: DIRECT, selection: { case: "ids", value: { ids: [id] } } }, options),
}

/** Of what only an SQL database has. */
export const CONTROL: TimedCalls = {
  GetUser: (channel, id, options) => channel.stub(ControlService).getUser({ userId: id }, options),
  CreateUser: (channel, id, options) =>
    channel.stub(ControlService).createUser({ user: { userId: id } }, options),
  PutConfig: (channel, id, options) =>
    channel.stub(ControlService).putConfig({ key: id, value: { case: "structValue", value: {} } }, options),
  EnqueueJob: (channel, id, options) => channel.stub(JobService).enqueueJob({ job: { queue: id } }, options),
  ListJobs: (channel, _, options) => channel.stub(JobService).listJobs({}, options),
  AcquireLock: (channel, id, options) =>
    channel.stub(LockService).acquireLock({ name: id, ownerId: "late", ttl: { seconds: 5n } }, options),
  RecordUsage: (channel, id, options) =>
    channel
      .stub(BillingService)
      .recordUsage({ events: [{ eventId: id, meter: "late", quantity: "1" }] }, options),
}

/** Of streams, sessions and the audit log. */
export const EVENTS: TimedCalls = {
  AppendEvents: (channel, id, options) =>
    channel.stub(EventService).appendEvents({ stream: id, events: [{ type: "late" }] }, options),
  GetStreamState: (channel, id, options) =>
    channel.stub(EventService).getStreamState({ stream: id }, options),
  CreateSession: (channel, id, options) =>
    channel.stub(SessionService).createSession({ session: { sessionId: id } }, options),
  GetSession: (channel, id, options) => channel.stub(SessionService).getSession({ sessionId: id }, options),
  QueryAudit: (channel, _, options) => channel.stub(AuditService).queryAudit({}, options),
}

/** Of the cache. */
export const CACHE: TimedCalls = {
  Get: (channel, id, options) => channel.stub(CacheService).get({ key: id }, options),
  Set: (channel, id, options) => channel.stub(CacheService).set({ key: id, value: text(id) }, options),
  ListPush: (channel, id, options) =>
    channel
      .stub(CacheService)
      .listPush({ key: id, end: ListEnd.TAIL, values: [{ value: text(id) }] }, options),
  BatchGet: (channel, id, options) => channel.stub(CacheService).batchGet({ keys: [id, "other"] }, options),
  CheckRateLimit: (channel, id, options) => {
    const limit = { name: "late", key: id, limit: 10n, window: { seconds: 1n } }
    return channel.stub(RateLimitService).checkRateLimit({ limits: [limit] }, options)
  },
}

/** A call under a key that the daemon has not seen yet, so that it has to look it up. Each key once. */
export async function byNewKeys(channel: Channel, count: number): Promise<TimedCalls> {
  const tokens: string[] = []
  for (let n = 0; n < count; n++) {
    const made = await channel
      .stub(ControlService)
      .createApiKey({ name: `late-${n}`, permissions: ["control.read"] })
    tokens.push(made.token)
  }
  return {
    "GetUser with a new key": (other, id, options) => {
      const authorization = `Bearer ${tokens.pop()}`
      const headers = { ...options.headers, authorization }
      return other.stub(ControlService).getUser({ userId: id }, { ...options, headers })
    },
  }
}
