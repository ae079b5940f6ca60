/** A bit of everything, again and again, while stores fail: what agents do, and what impatient ones break off. */
import { randomUUID } from "node:crypto"
import { create } from "@bufbuild/protobuf"
import { BillingService } from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import { MemoryService, VectorSchema } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { CallError, type CallOptions, type Channel } from "../support/grpc-client.ts"

/** Names repeat, so that what is stored does not grow for ever. */
const NAMES = 200
const CALL_MS = 3_000
const PAUSE_MS = 10

/** Bad days excuse these; an error of any other code would be ours. */
const EXCUSED: ReadonlySet<number> = new Set([1, 2, 4, 8, 14])
/** Answers that clients who race for the same names have to expect. */
const RACES: ReadonlySet<string> = new Set([
  "NOT_FOUND",
  "REVISION_MISMATCH",
  "LOCK_NOT_HELD",
  "LEASE_LOST",
  "REQUEST_IN_PROGRESS",
])

const name = () => `n-${Math.floor(Math.random() * NAMES)}`
const vector = () =>
  create(VectorSchema, { data: { case: "values", value: { values: [Math.random(), Math.random(), 1] } } })

type Work = (channel: Channel, options: CallOptions) => Promise<unknown>

const WORK: Readonly<Record<string, Work>> = {
  append: (channel, options) => {
    const request = { stream: `s-${Math.floor(Date.now() / 60_000)}-${name()}`, events: [{ type: "beat" }] }
    return channel.stub(EventService).appendEvents({ ...request, requestId: randomUUID() }, options)
  },
  follow: async (channel, options) => {
    const start = { case: "fromNow", value: true } as const
    for await (const _ of channel.stub(EventService).subscribe({ start }, options)) break
  },
  read: async (channel, options) => {
    const request = { stream: `s-${Math.floor(Date.now() / 60_000)}-${name()}` }
    for await (const _ of channel.stub(EventService).readStream(request, options));
  },
  remember: (channel, options) => {
    const request = { collectionId: "soak", records: [{ id: name(), vector: vector() }] }
    return channel.stub(MemoryService).upsertRecords(request, options)
  },
  search: (channel, options) => {
    const target = { case: "vector", value: vector() } as const
    return channel.stub(MemoryService).search({ collectionId: "soak", query: { target } }, options)
  },
  set: (channel, options) => {
    const request = { key: name(), value: { case: "text", value: "v".repeat(500) } as const, tags: [name()] }
    return channel.stub(CacheService).set(request, options)
  },
  get: (channel, options) => channel.stub(CacheService).get({ key: name() }, options),
  configure: (channel, options) => {
    const value = { case: "structValue", value: { at: Date.now() } } as const
    return channel.stub(ControlService).putConfig({ key: name(), value }, options)
  },
  lock: async (channel, options) => {
    const locks = channel.stub(LockService)
    const request = { name: name(), ownerId: "soak", ttl: { seconds: 5n }, wait: { nanos: 100_000_000 } }
    const { acquired, token } = await locks.acquireLock(request, options)
    if (acquired) await locks.releaseLock({ name: request.name, token }, options)
  },
  job: async (channel, options) => {
    const jobs = channel.stub(JobService)
    await jobs.enqueueJob({ job: { queue: "soak" } }, options)
    const claimed = await jobs.claimJobs({ workerId: "soak", queues: ["soak"], maxJobs: 4 }, options)
    for (const { job, leaseToken } of claimed.jobs)
      await jobs.completeJob({ jobId: job?.jobId ?? "", leaseToken }, options)
  },
  use: (channel, options) => {
    const events = [{ eventId: randomUUID(), meter: "soak", quantity: "1" }]
    return channel.stub(BillingService).recordUsage({ events }, options)
  },
}

/** What was asked and what came of it. */
export class Tally {
  answered = 0
  brokenOff = 0
  /** Excused failures by code and reason. */
  readonly failures = new Map<string, number>()
  /** What no client should ever see. */
  readonly bugs: string[] = []

  /** Notes a failure. */
  fail(work: string, error: unknown): void {
    if (!(error instanceof CallError)) throw error
    if (RACES.has(error.reason)) return
    if (!EXCUSED.has(error.code)) this.bugs.push(`${work}: ${error.code} ${error.reason} ${error.message}`)
    const kind = `${error.code} ${error.reason}`
    this.failures.set(kind, (this.failures.get(kind) ?? 0) + 1)
  }
}

/** One client's life. */
export async function client(channel: Channel, tally: Tally, isOver: () => boolean): Promise<void> {
  const works = Object.entries(WORK)
  while (!isOver()) {
    const [what, work] = works[Math.floor(Math.random() * works.length)] ?? []
    if (what === undefined || work === undefined) return
    const impatient = Math.random() < 0.1
    const signal = AbortSignal.timeout(impatient ? Math.floor(Math.random() * 20) : CALL_MS)
    try {
      await work(channel, { timeoutMs: CALL_MS, signal })
      tally.answered++
    } catch (error) {
      if (impatient && signal.aborted) tally.brokenOff++
      else tally.fail(what, error)
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
}
