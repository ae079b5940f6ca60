/** The calls that the planes are put under load with. Every write leaves its id behind, so that it can be found again. */
import { create } from "@bufbuild/protobuf"
import { CacheService, ListEnd } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { EventService, ReadDirection } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService, VectorSchema } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import type { Channel } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import { type Caller, DEADLINE_MS, OTHERS_DEADLINE_MS } from "./load.ts"

/** The collection that records are written to. */
export const COLLECTION = "faults"
const LIST_PAGE = 500
const GET_BATCH = 500

/** A vector of the collection. */
export const vector = (x = 1) =>
  create(VectorSchema, { data: { case: "values", value: { values: [x, 2, 3] } } })

/** The same caller several times, each with a name of its own. */
export function several(count: number, make: (name: string) => Caller, name: string): readonly Caller[] {
  return Array.from({ length: count }, (_, index) => make(`${name}${index}`))
}

/** The daemon hears of the deadline and the client waits for its answer, however late: so it is seen when that comes. */
const deadlineOf = (kind: Caller["kind"]) =>
  kind === "other"
    ? { timeoutMs: OTHERS_DEADLINE_MS }
    : { timeoutMs: Number.POSITIVE_INFINITY, headers: { "grpc-timeout": `${DEADLINE_MS}m` } }

/** UpsertRecords without a request_id. */
export function recordWriter(
  channel: Channel,
  name: string,
  kind: Caller["kind"] = "write",
  collectionId = COLLECTION,
): Caller {
  const memory = channel.stub(MemoryService)
  return {
    name,
    kind,
    call: async (id) => {
      await memory.upsertRecords({ collectionId, records: [{ id, vector: vector() }] }, deadlineOf(kind))
    },
  }
}

/** GetRecords of a record that need not be there. */
export function recordReader(channel: Channel, name: string, kind: Caller["kind"] = "read"): Caller {
  const memory = channel.stub(MemoryService)
  return {
    name,
    kind,
    call: async () => {
      await memory.getRecords({ collectionId: COLLECTION, ids: ["none"] }, deadlineOf(kind))
    },
  }
}

/** Search by vector; a fallback's answer counts as degraded. */
export function searcher(
  channel: Channel,
  name: string,
  kind: Caller["kind"] = "read",
  collectionId = COLLECTION,
): Caller {
  const memory = channel.stub(MemoryService)
  return {
    name,
    kind,
    call: async () => {
      const query = { target: { case: "vector" as const, value: vector() } }
      const { result } = await memory.search({ collectionId, query }, deadlineOf(kind))
      return result?.degraded === true
    },
  }
}

/** Which of these records are there. */
export async function presentRecords(
  channel: Channel,
  ids: readonly string[],
  collectionId = COLLECTION,
): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  const memory = channel.stub(MemoryService)
  for (let at = 0; at < ids.length; at += GET_BATCH) {
    const { records } = await memory.getRecords({ collectionId, ids: ids.slice(at, at + GET_BATCH) })
    for (const { id } of records) found.set(id, 1)
  }
  return found
}

/** EnqueueJob under a request_id, into a queue of its own. */
export function jobWriter(channel: Channel, name: string): Caller {
  const jobs = channel.stub(JobService)
  return {
    name,
    kind: "write",
    call: async (id) => {
      await jobs.enqueueJob({ job: { queue: id }, requestId: id }, deadlineOf("write"))
    },
  }
}

/** How often each of these jobs is there. */
export async function presentJobs(channel: Channel, ids: readonly string[]): Promise<Map<string, number>> {
  const wanted = new Set(ids)
  const found = new Map<string, number>()
  const jobs = channel.stub(JobService)
  for (let pageToken = ""; ; ) {
    const page = await jobs.listJobs({ pageSize: LIST_PAGE, pageToken })
    for (const { queue } of page.jobs) if (wanted.has(queue)) found.set(queue, (found.get(queue) ?? 0) + 1)
    pageToken = page.nextPageToken
    if (pageToken === "") return found
  }
}

/** AppendEvents to one stream, with or without a request_id. */
export function appender(
  channel: Channel,
  name: string,
  kind: Caller["kind"],
  options: { readonly stream: string; readonly requestId: boolean },
): Caller {
  const events = channel.stub(EventService)
  return {
    name,
    kind,
    call: async (id) => {
      const requestId = options.requestId ? id : ""
      const request = { stream: options.stream, events: [{ type: "beat", correlationId: id }], requestId }
      await events.appendEvents(request, deadlineOf(kind))
    },
  }
}

/** Reads the end of a stream. */
export function streamReader(channel: Channel, name: string, kind: Caller["kind"], stream: string): Caller {
  const events = channel.stub(EventService)
  return {
    name,
    kind,
    call: async () => {
      const request = { stream, direction: ReadDirection.BACKWARDS, limit: 1n }
      for await (const part of events.readStream(request, deadlineOf(kind))) void part
    },
  }
}

/** How often each of these events is in the streams. */
export async function presentEvents(
  channel: Channel,
  streams: readonly string[],
  ids: readonly string[],
): Promise<Map<string, number>> {
  const wanted = new Set(ids)
  const found = new Map<string, number>()
  const events = channel.stub(EventService)
  for (const stream of streams) {
    let expected = 1n
    for await (const part of events.readStream({ stream })) {
      for (const { revision, correlationId } of part.events) {
        if (revision !== expected++) throw new Error(`${stream} has a gap before revision ${revision}`)
        if (wanted.has(correlationId)) found.set(correlationId, (found.get(correlationId) ?? 0) + 1)
      }
    }
  }
  return found
}

/** Set of a new key, without a request_id. */
export function cacheWriter(channel: Channel, name: string, kind: Caller["kind"] = "write"): Caller {
  const cache = channel.stub(CacheService)
  return {
    name,
    kind,
    call: async (id) => {
      await cache.set({ key: id, value: { case: "text", value: id } }, deadlineOf(kind))
    },
  }
}

/** Get of a key that need not be there. */
export function cacheReader(channel: Channel, name: string, kind: Caller["kind"] = "read"): Caller {
  const cache = channel.stub(CacheService)
  return {
    name,
    kind,
    call: async () => {
      const answer = await cache.get({ key: "none" }, deadlineOf(kind))
      return "degraded" in answer && answer.degraded === true
    },
  }
}

/** Appends its id to one list under a request_id: a repetition that took effect twice would be seen. */
export function listWriter(channel: Channel, name: string): Caller {
  const cache = channel.stub(CacheService)
  return {
    name,
    kind: "write",
    call: async (id) => {
      const values = [{ value: { case: "text" as const, value: id } }]
      await cache.listPush({ key: name, end: ListEnd.TAIL, values, requestId: id }, deadlineOf("write"))
    },
  }
}

/** How often each of these is among the keys and in the lists. */
export async function presentInCache(
  channel: Channel,
  lists: readonly string[],
  ids: readonly string[],
): Promise<Map<string, number>> {
  const wanted = new Set(ids)
  const found = new Map<string, number>()
  const cache = channel.stub(CacheService)
  for (const key of lists) {
    const { values } = await byTheCache(() => cache.listRange({ key }))
    for (const { value } of values) {
      if (value.case === "text" && wanted.has(value.value))
        found.set(value.value, (found.get(value.value) ?? 0) + 1)
    }
  }
  for (let at = 0; at < ids.length; at += 256) {
    const keys = ids.slice(at, at + 256)
    const { items } = await byTheCache(() => cache.batchGet({ keys }))
    for (const { key, found: there } of items) if (there) found.set(key, 1)
  }
  return found
}

/** Reads until it is the cache that answers: a while after a fault, or on a busy machine, it may still not be asked. */
async function byTheCache<T extends { readonly degraded: boolean }>(read: () => Promise<T>): Promise<T> {
  let answer = await read()
  await until("the cache answers itself", async () => {
    if (answer.degraded) answer = await read()
    return !answer.degraded
  })
  return answer
}
