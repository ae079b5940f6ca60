/** JobService, AuditService and LockService by gRPC, from the wire to SQL. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect"
import { createGrpcTransport } from "@connectrpc/connect-node"
import { LockQueue } from "../../src/domain/cache/lock-queue.ts"
import { JobQueue } from "../../src/domain/event/job-queue.ts"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import {
  AuditBreakKind,
  AuditExportFormat,
  AuditOutcome,
  AuditPeriod,
  AuditService,
} from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import {
  JobAttemptOutcome,
  JobService,
  JobStatus,
  JobView,
} from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import { createServer, type RpcServer } from "../../src/rpc/server.ts"
import { createAuditService } from "../../src/services/audit-service.ts"
import { createJobService } from "../../src/services/job-service.ts"
import { createLockService } from "../../src/services/lock-service.ts"
import { Pages } from "../../src/services/paging.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { createPostgresLockStore } from "../../src/stores/postgres/lock-store.ts"
import { embeddedDatabase } from "../engines/pglite.ts"

describe("job, audit and lock services", { timeout: 120_000 }, () => {
  let engine: SqlEngine
  let server: RpcServer
  let transport: Transport
  before(async () => {
    engine = await embeddedDatabase()
    const pages = new Pages(new Uint8Array(32).fill(7))
    const silent = () => {}
    server = createServer({
      services: [
        createJobService({ jobs: new JobQueue(createPostgresJobStore(engine.database)), pages }),
        createAuditService({ audit: createPostgresAuditStore(engine.database), pages }),
        createLockService({ locks: new LockQueue(createPostgresLockStore(engine.database)) }),
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

  it("takes a job from queue to result, watched all the way", async () => {
    const jobs = createClient(JobService, transport)
    const payload = { kind: { case: "data" as const, value: { to: "ada", n: [1, null] } } }
    const waiting = jobs.claimJobs({ workerId: "w", queues: ["mail"], wait: { seconds: 60n } })
    const { job } = await jobs.enqueueJob({ job: { queue: "mail", payload, priority: 3 } })
    assert.equal(job?.maxAttempts, 5)
    assert.equal(job?.lease?.seconds, 60n)
    const watched: JobStatus[] = []
    const watching = (async () => {
      for await (const { job: state } of jobs.watchJob({ jobId: job?.jobId ?? "" })) {
        watched.push(state?.status ?? 0)
      }
    })()
    const [claimed] = (await waiting).jobs
    assert.deepEqual(claimed?.job?.payload?.kind, payload.kind)
    const lease = { jobId: claimed?.job?.jobId ?? "", leaseToken: claimed?.leaseToken ?? "" }
    assert.equal((await jobs.heartbeatJob({ ...lease, progress: { p: 1 } })).cancelRequested, false)
    const result = {
      kind: { case: "binary" as const, value: Uint8Array.of(0, 255) },
      contentType: "image/png",
    }
    const done = await jobs.completeJob({ ...lease, result, cost: { amount: "1.50", currency: "EUR" } })
    assert.equal(done.job?.status, JobStatus.SUCCEEDED)
    await watching
    assert.equal(watched.at(-1), JobStatus.SUCCEEDED)
    const read = (await jobs.getJob({ jobId: lease.jobId })).job
    assert.equal(read?.result?.contentType, "image/png")
    assert.equal(read?.cost?.amount, "1.50")
    assert.equal(read?.history[0]?.outcome, JobAttemptOutcome.SUCCEEDED)
    await fails(jobs.completeJob(lease), Code.FailedPrecondition, "LEASE_LOST")
  })

  it("replays by request_id and pages with sealed tokens", async () => {
    const jobs = createClient(JobService, transport)
    const request = { jobs: Array.from({ length: 5 }, () => ({ queue: "paged" })), requestId: "batch-1" }
    const first = await jobs.enqueueJobs(request)
    const again = await jobs.enqueueJobs(request)
    assert.deepEqual(
      again.jobs.map(({ job }) => job?.jobId),
      first.jobs.map(({ job }) => job?.jobId),
    )
    const other = { ...request, jobs: [{ queue: "paged" }] }
    await fails(jobs.enqueueJobs(other), Code.InvalidArgument, "REQUEST_ID_REUSED")
    const page = await jobs.listJobs({ queue: "paged", pageSize: 3, view: JobView.FULL })
    const { nextPageToken: pageToken } = page
    const rest = await jobs.listJobs({ queue: "paged", pageSize: 3, view: JobView.FULL, pageToken })
    assert.equal(new Set([...page.jobs, ...rest.jobs].map(({ jobId }) => jobId)).size, 5)
    assert.equal(rest.nextPageToken, "")
    await fails(jobs.listJobs({ queue: "mail", pageToken }), Code.InvalidArgument, "INVALID_PAGE_TOKEN")
  })

  it("answers changes without the bulk, which the largest batch would not fit", async () => {
    const jobs = createClient(JobService, transport)
    const binary = { kind: { case: "binary" as const, value: new Uint8Array(1_000_000) } }
    const job = { queue: "bulk", payload: binary, dedupeKey: "" }
    const added = await jobs.enqueueJobs({ jobs: [job, job, job, { ...job, dedupeKey: "one" }] })
    assert.equal(added.jobs.length, 4)
    const again = await jobs.enqueueJob({ job: { ...job, dedupeKey: "one" } })
    assert.equal(again.deduplicated, true)
    for (const { job: answered } of [...added.jobs, again]) assert.equal(answered?.payload, undefined)
    const [claimed] = (await jobs.claimJobs({ workerId: "w", queues: ["bulk"] })).jobs
    assert.equal(claimed?.job?.payload?.kind.case, "binary")
    const lease = { jobId: claimed?.job?.jobId ?? "", leaseToken: claimed?.leaseToken ?? "" }
    const done = (await jobs.completeJob({ ...lease, result: binary })).job
    assert.deepEqual([done?.payload, done?.result], [undefined, undefined])
    const read = (await jobs.getJob(lease)).job
    assert.equal(read?.result?.kind.case, "binary")
    assert.equal(read?.payload?.kind.case, "binary")
  })

  it("refuses bad job requests by field", async () => {
    const jobs = createClient(JobService, transport)
    const bad = [
      jobs.enqueueJob({}),
      jobs.enqueueJob({ job: { queue: "" } }),
      jobs.enqueueJob({ job: { queue: "with space" } }),
      jobs.enqueueJob({ job: { queue: "q", maxAttempts: 101 } }),
      jobs.enqueueJob({ job: { queue: "q", schedule: { case: "delay", value: { seconds: -1n } } } }),
      jobs.enqueueJob({
        job: { queue: "q", schedule: { case: "runTime", value: { seconds: 253402300800n } } },
      }),
      jobs.enqueueJob({ job: { queue: "q", payload: { contentType: "text/plain" } } }),
      jobs.enqueueJob({ job: { queue: "q", dedupeKey: "a\0b" } }),
      jobs.enqueueJob({ job: { queue: "q", lease: { nanos: 1 } } }),
      jobs.enqueueJobs({}),
      jobs.claimJobs({ workerId: "w" }),
      jobs.claimJobs({ workerId: "w", queues: ["q"], wait: { seconds: 301n } }),
      jobs.listJobs({ pageSize: -1 }),
      jobs.failJob({ jobId: "j", leaseToken: "t" }),
      jobs.completeJob({ jobId: "j", leaseToken: "t", cost: { amount: "-1", currency: "USD" } }),
      jobs.getJob({ jobId: "\0" }),
    ]
    for (const call of bad) await fails(call, Code.InvalidArgument, "INVALID_FIELD")
    const large = { kind: { case: "data" as const, value: { a: "x".repeat(1024 * 1024) } } }
    await fails(
      jobs.enqueueJob({ job: { queue: "q", payload: large } }),
      Code.InvalidArgument,
      "LIMIT_EXCEEDED",
    )
    const zeros = { kind: { case: "data" as const, value: { a: Array.from({ length: 300_000 }, () => 0) } } }
    const many = { a: Array.from({ length: 2_000 }, () => 0) }
    const lease = { jobId: "j", leaseToken: "t" }
    for (const call of [
      jobs.enqueueJob({ job: { queue: "q", payload: zeros } }),
      jobs.completeJob({ ...lease, result: zeros }),
      jobs.heartbeatJob({ ...lease, progress: many }),
      jobs.failJob({ ...lease, error: { message: "m", details: many } }),
    ]) {
      await fails(call, Code.InvalidArgument, "LIMIT_EXCEEDED")
    }
    await fails(jobs.listJobs({ filter: "queue ==" }), Code.InvalidArgument, "INVALID_FILTER")
    await fails(jobs.getJob({ jobId: "nobody" }), Code.NotFound, "NOT_FOUND")
    await fails(drain(jobs.watchJob({ jobId: "nobody" })), Code.NotFound, "NOT_FOUND")
  })

  it("records, reports, verifies and exports the audit log", async () => {
    const audit = createClient(AuditService, transport)
    const record = { actor: "ada", action: "read", resourceType: "doc", outcome: AuditOutcome.SUCCESS }
    const records = [
      { ...record, resourceId: "1", details: { "=k": "v" } },
      { ...record, actor: "=cmd|' /C calc'!A0", outcome: AuditOutcome.DENIED },
    ]
    const { receipts } = await audit.recordAudit({ records })
    assert.deepEqual(
      receipts.map(({ sequence }) => sequence),
      [1n, 2n],
    )
    const plain = await audit.queryAudit({ query: { actor: "ada" } })
    assert.equal(plain.records[0]?.hash, receipts[0]?.hash)
    assert.deepEqual(plain.records[0]?.details, { "=k": "v" })
    const report = await audit.summarizeAudit({ period: AuditPeriod.HOUR, top: 1 })
    assert.deepEqual([report.total, report.denied, report.succeeded], [2n, 1n, 1n])
    assert.deepEqual([report.actors?.distinct, report.actors?.other], [2n, 1n])
    const verdict = await audit.verifyAudit({})
    assert.deepEqual([verdict.intact, verdict.recordsChecked], [true, 2n])
    assert.equal(verdict.days[0]?.headHash, receipts[1]?.hash)
    const csv = { format: AuditExportFormat.CSV }
    const [chunk] = await drain(audit.exportAudit(csv))
    assert.match(Buffer.from(chunk?.data ?? []).toString(), /,'=cmd\|/)
    const { resumeToken = "" } = chunk ?? {}
    assert.deepEqual(await drain(audit.exportAudit({ ...csv, resumeToken })), [])
    const elsewhere = { query: { actor: "ada" }, resumeToken }
    await fails(
      drain(audit.exportAudit({ ...csv, ...elsewhere })),
      Code.InvalidArgument,
      "INVALID_RESUME_TOKEN",
    )
    await fails(drain(audit.exportAudit({ resumeToken: "x" })), Code.InvalidArgument, "INVALID_RESUME_TOKEN")
    await engine.database.transaction(systemScope(DEFAULT_TENANT), async (tx) => {
      await tx.query({ text: "set local role none" })
      await tx.query({ text: "alter table audit_records disable trigger audit_immutable" })
      await tx.query({
        text: "update audit_records set outcome = 'success' where tenant = 'default' and seq = 2",
      })
      await tx.query({ text: "alter table audit_records enable trigger audit_immutable" })
    })
    const broken = await audit.verifyAudit({})
    assert.equal(broken.intact, false)
    assert.equal(broken.firstBreak?.kind, AuditBreakKind.ALTERED)
    assert.deepEqual([broken.firstBreak?.sequence, broken.firstBreak?.recordId], [2n, receipts[1]?.recordId])
  })

  it("refuses bad audit requests by field", async () => {
    const audit = createClient(AuditService, transport)
    const record = { actor: "ada", action: "read", resourceType: "doc", outcome: AuditOutcome.SUCCESS }
    const bad = [
      audit.recordAudit({}),
      audit.recordAudit({ records: Array.from({ length: 501 }, () => record) }),
      audit.recordAudit({ records: [{ ...record, actor: "" }] }),
      audit.recordAudit({ records: [{ ...record, outcome: AuditOutcome.UNSPECIFIED }] }),
      audit.recordAudit({ records: [{ ...record, details: { a: "\0" } }] }),
      audit.verifyAudit({ startDay: "2026-02-31" }),
      audit.verifyAudit({ endDay: "tomorrow" }),
      audit.verifyAudit({ startDay: "2026-02-02", endDay: "2026-02-01" }),
      audit.summarizeAudit({ query: { startTime: { seconds: 0n } }, period: AuditPeriod.HOUR }),
      audit.queryAudit({ query: { startTime: { seconds: 2n }, endTime: { seconds: 1n } } }),
    ]
    for (const call of bad) await fails(call, Code.InvalidArgument, "INVALID_FIELD")
    const details = { zeros: Array.from({ length: 2_000 }, () => 0) }
    const heavy = audit.recordAudit({ records: [{ ...record, details }] })
    await fails(heavy, Code.InvalidArgument, "LIMIT_EXCEEDED")
  })

  it("hands a lock from one to the next, with rising tokens", async () => {
    const locks = createClient(LockService, transport)
    const first = await locks.acquireLock({ name: "door", ownerId: "a", metadata: { pid: 1 } })
    assert.equal(first.acquired, true)
    const refused = await locks.acquireLock({ name: "door", ownerId: "b" })
    assert.deepEqual([refused.acquired, refused.token, refused.holder?.ownerId], [false, 0n, "a"])
    assert.deepEqual(refused.holder?.metadata, { pid: 1 })
    const waiting = locks.acquireLock({ name: "door", ownerId: "b", wait: { seconds: 60n }, requestId: "w1" })
    for (let waiters = 0; waiters === 0; ) waiters = (await locks.getLock({ name: "door" })).waiters
    await locks.releaseLock({ name: "door", token: first.token })
    const second = await waiting
    assert.ok(second.acquired && second.token > first.token)
    const again = await locks.acquireLock({
      name: "door",
      ownerId: "b",
      wait: { seconds: 60n },
      requestId: "w1",
    })
    assert.equal(again.token, second.token)
    await fails(
      locks.renewLock({ name: "door", token: first.token }),
      Code.FailedPrecondition,
      "LOCK_NOT_HELD",
    )
    await fails(
      locks.releaseLock({ name: "door", token: 2n ** 64n - 1n }),
      Code.FailedPrecondition,
      "LOCK_NOT_HELD",
    )
    await fails(locks.renewLock({ name: "door" }), Code.InvalidArgument, "INVALID_FIELD")
    await fails(locks.acquireLock({ name: "", ownerId: "a" }), Code.InvalidArgument, "INVALID_FIELD")
    const shortWait = locks.acquireLock(
      { name: "door", ownerId: "c", wait: { seconds: 60n } },
      { timeoutMs: 2_000 },
    )
    assert.equal((await shortWait).acquired, false)
  })
})

async function drain<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const each of stream) all.push(each)
  return all
}

async function fails(call: Promise<unknown>, code: Code, reason: Reason): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError)
    const [info] = error.findDetails(ErrorInfoSchema)
    assert.deepEqual([error.code, info?.reason], [code, reason], error.message)
    return true
  })
}
