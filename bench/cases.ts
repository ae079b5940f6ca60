/** What the benchmark sends: a unary and, where there is one, a batched call per plane, with bodies made beforehand. */
import { randomUUID } from "node:crypto"
import {
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf"
import {
  AuditOutcome,
  AuditService,
  RecordAuditRequestSchema,
} from "../src/gen/keelplane/v1/audit_service_pb.ts"
import { BillingService, RecordUsageRequestSchema } from "../src/gen/keelplane/v1/billing_service_pb.ts"
import {
  CacheService,
  CacheServiceBatchGetRequestSchema,
  CacheServiceExecuteRequestSchema,
  CacheServiceGetRequestSchema,
  CacheServiceSetRequestSchema,
} from "../src/gen/keelplane/v1/cache_service_pb.ts"
import {
  BatchCheckPermissionsRequestSchema,
  CheckPermissionRequestSchema,
  ControlService,
} from "../src/gen/keelplane/v1/control_service_pb.ts"
import { AppendEventsRequestSchema, EventService } from "../src/gen/keelplane/v1/event_service_pb.ts"
import {
  EnqueueJobRequestSchema,
  EnqueueJobsRequestSchema,
  JobService,
} from "../src/gen/keelplane/v1/job_service_pb.ts"
import {
  BatchSearchRequestSchema,
  type CollectionSchema,
  MemoryService,
  SearchRequestSchema,
  UpsertRecordsRequestSchema,
} from "../src/gen/keelplane/v1/memory_service_pb.ts"
import {
  CheckRateLimitRequestSchema,
  RateLimitService,
} from "../src/gen/keelplane/v1/rate_limit_service_pb.ts"
import type { Channel } from "../test/support/grpc-client.ts"

/** How many items a batched call carries. */
export const BATCH = 32
/** Vectors' dimension. */
export const DIMENSION = 384
/** Records in the searched collection on the embedded engines. */
export const RECORDS = 2000
/** And on a server, where a graph is what is searched. */
export const SERVER_RECORDS = 20_000

/** One measured call. */
export interface Case {
  readonly name: string
  readonly plane: "memory" | "event" | "cache" | "control"
  readonly path: string
  readonly bodies: readonly Uint8Array[]
  /** Items per call. */
  readonly items: number
}

function bodies<S extends DescMessage>(
  schema: S,
  count: number,
  make: (index: number) => MessageInitShape<S>,
) {
  return Array.from({ length: count }, (_, index) => toBinary(schema, create(schema, make(index)) as never))
}

function path(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`
}

/** Repeatable numbers, so that every run sends the same vectors. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
}

function packedVector(next: () => number): Uint8Array {
  return new Uint8Array(Float32Array.from({ length: DIMENSION }, next).buffer)
}

const value = new Uint8Array(128).fill(7)
const many = Array.from({ length: BATCH }, (_, index) => index)
const key = (index: number) => `key-${index % 1000}`
const vectorOf = (next: () => number) => ({ data: { case: "packed" as const, value: packedVector(next) } })

/** Puts the values there that the cache's calls read. */
export async function prepareCache(channel: Channel): Promise<void> {
  const cache = channel.stub(CacheService)
  for (let index = 0; index < 1000; index += 100) {
    await cache.batchSet({
      items: Array.from({ length: 100 }, (_, offset) => ({
        key: key(index + offset),
        value: { case: "data" as const, value },
      })),
    })
  }
}

/** Puts the data there that the calls read. */
export async function prepare(channel: Channel): Promise<void> {
  await prepareCache(channel)
  await prepareMemory(channel, {})
}

/** Makes the collections, and fills the one that is searched. */
export async function prepareMemory(
  channel: Channel,
  how: Pick<MessageInitShape<typeof CollectionSchema>, "storageMode" | "index">,
  records = RECORDS,
): Promise<void> {
  const memory = channel.stub(MemoryService)
  for (const id of ["bench", "writes"]) {
    await memory.createCollection({ collection: { id, dimension: DIMENSION, ...how } })
  }
  const next = generator(1)
  async function* chunks() {
    for (let index = 0; index < records; index += 200) {
      yield {
        collectionId: "bench",
        records: Array.from({ length: 200 }, (_, offset) => ({
          id: `r${index + offset}`,
          vector: vectorOf(next),
        })),
      }
    }
  }
  await memory.importRecords(chunks(), { timeoutMs: 600_000 })
}

/** The event appends are measured by themselves: see main. Every body appends to a stream of its own. */
export function appendBodies(streams: number, events: number): readonly Uint8Array[] {
  const run = randomUUID().slice(0, 8)
  return bodies(AppendEventsRequestSchema, streams, (index) => ({
    stream: `bench-${run}-${index}`,
    events: Array.from({ length: events }, () => ({
      type: "bench.event",
      data: { case: "json" as const, value: { text: "x".repeat(100) } },
    })),
  }))
}

/** `/keelplane.v1.EventService/AppendEvents`. */
export const APPEND = path(EventService.method.appendEvents)

/** The cases, cheapest plane first. */
export function cases(): Case[] {
  const next = generator(2)
  const search = () => ({ target: { case: "vector" as const, value: vectorOf(next) }, k: 10 })
  const check = (index: number) => ({
    subject: { subject: { case: "userId" as const, value: `user-${index}` } },
    permission: "document:read",
  })
  const usage = () => ({ eventId: randomUUID(), meter: "bench", quantity: "1" })
  const record = () => ({
    actor: "bench",
    action: "bench.run",
    resourceType: "run",
    resourceId: "1",
    outcome: AuditOutcome.SUCCESS,
  })
  const get = (index: number) => ({
    operation: { case: "get" as const, value: { key: key(index) } },
  })
  const { method: cacheMethod } = CacheService
  return [
    {
      name: "CacheService.Get",
      plane: "cache",
      path: path(cacheMethod.get),
      items: 1,
      bodies: bodies(CacheServiceGetRequestSchema, 1000, (index) => ({ key: key(index) })),
    },
    {
      name: "CacheService.Set",
      plane: "cache",
      path: path(cacheMethod.set),
      items: 1,
      bodies: bodies(CacheServiceSetRequestSchema, 1000, (index) => ({
        key: key(index),
        value: { case: "data" as const, value },
      })),
    },
    {
      name: `CacheService.BatchGet x ${BATCH}`,
      plane: "cache",
      path: path(cacheMethod.batchGet),
      items: BATCH,
      bodies: bodies(CacheServiceBatchGetRequestSchema, 30, (index) => ({
        keys: many.map((each) => key(index * BATCH + each)),
      })),
    },
    {
      name: `CacheService.Execute x ${BATCH}`,
      plane: "cache",
      path: path(cacheMethod.execute),
      items: BATCH,
      bodies: bodies(CacheServiceExecuteRequestSchema, 30, (index) => ({
        operations: many.map((each) => get(index * BATCH + each)),
      })),
    },
    {
      name: "RateLimitService.CheckRateLimit",
      plane: "cache",
      path: path(RateLimitService.method.checkRateLimit),
      items: 1,
      bodies: bodies(CheckRateLimitRequestSchema, 100, (index) => ({
        limits: [{ name: "bench", key: String(index), limit: 1_000_000n, window: { seconds: 60n } }],
      })),
    },
    {
      name: "MemoryService.UpsertRecords",
      plane: "memory",
      path: path(MemoryService.method.upsertRecords),
      items: 1,
      bodies: bodies(UpsertRecordsRequestSchema, 500, (index) => ({
        collectionId: "writes",
        records: [{ id: `w${index}`, vector: vectorOf(next) }],
      })),
    },
    {
      name: `MemoryService.UpsertRecords x ${BATCH}`,
      plane: "memory",
      path: path(MemoryService.method.upsertRecords),
      items: BATCH,
      bodies: bodies(UpsertRecordsRequestSchema, 20, (index) => ({
        collectionId: "writes",
        records: many.map((each) => ({ id: `w${index * BATCH + each}`, vector: vectorOf(next) })),
      })),
    },
    {
      name: `MemoryService.Search of ${RECORDS}`,
      plane: "memory",
      path: path(MemoryService.method.search),
      items: 1,
      bodies: bodies(SearchRequestSchema, 100, () => ({ collectionId: "bench", query: search() })),
    },
    {
      name: `MemoryService.BatchSearch x ${BATCH}`,
      plane: "memory",
      path: path(MemoryService.method.batchSearch),
      items: BATCH,
      bodies: bodies(BatchSearchRequestSchema, 10, () => ({
        collectionId: "bench",
        queries: many.map(search),
      })),
    },
    {
      name: "AuditService.RecordAudit",
      plane: "event",
      path: path(AuditService.method.recordAudit),
      items: 1,
      bodies: bodies(RecordAuditRequestSchema, 1, () => ({ records: [record()] })),
    },
    {
      name: `AuditService.RecordAudit x ${BATCH}`,
      plane: "event",
      path: path(AuditService.method.recordAudit),
      items: BATCH,
      bodies: bodies(RecordAuditRequestSchema, 1, () => ({ records: many.map(record) })),
    },
    {
      name: "JobService.EnqueueJob",
      plane: "event",
      path: path(JobService.method.enqueueJob),
      items: 1,
      bodies: bodies(EnqueueJobRequestSchema, 1, () => ({ job: { queue: "bench" } })),
    },
    {
      name: `JobService.EnqueueJobs x ${BATCH}`,
      plane: "event",
      path: path(JobService.method.enqueueJobs),
      items: BATCH,
      bodies: bodies(EnqueueJobsRequestSchema, 1, () => ({ jobs: many.map(() => ({ queue: "bench" })) })),
    },
    {
      name: "ControlService.CheckPermission",
      plane: "control",
      path: path(ControlService.method.checkPermission),
      items: 1,
      bodies: bodies(CheckPermissionRequestSchema, 100, (index) => ({ check: check(index) })),
    },
    {
      name: `ControlService.BatchCheckPermissions x ${BATCH}`,
      plane: "control",
      path: path(ControlService.method.batchCheckPermissions),
      items: BATCH,
      bodies: bodies(BatchCheckPermissionsRequestSchema, 10, (index) => ({
        checks: many.map((each) => check(index * BATCH + each)),
      })),
    },
    {
      name: "BillingService.RecordUsage",
      plane: "control",
      path: path(BillingService.method.recordUsage),
      items: 1,
      bodies: bodies(RecordUsageRequestSchema, 20_000, () => ({ events: [usage()] })),
    },
    {
      name: `BillingService.RecordUsage x ${BATCH}`,
      plane: "control",
      path: path(BillingService.method.recordUsage),
      items: BATCH,
      bodies: bodies(RecordUsageRequestSchema, 3000, () => ({ events: many.map(usage) })),
    },
  ]
}
