/** Jobs for the suites. */
import assert from "node:assert/strict"
import type { ClaimedJob, EnqueuedJob, JobPayload, NewJob } from "../../src/domain/event/job-model.ts"
import type { JobClaim, JobQuery, JobStore } from "../../src/domain/event/job-ports.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../src/domain/kernel/scope.ts"

/** A store under test. */
export interface JobHarness {
  readonly store: JobStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the store sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

/** Lists everything. */
export const ALL: JobQuery = { statuses: [], full: false }

/** A job with the usual settings. */
export function newJob(job: Partial<NewJob> = {}): NewJob {
  return {
    queue: "q",
    priority: 0,
    maxAttempts: 5,
    backoff: { initialMs: 1_000, maximumMs: 300_000, multiplier: 2 },
    leaseMs: 60_000,
    ...job,
  }
}

/** Enqueues one job. */
export async function add(
  store: JobStore,
  scope: CallScope,
  job: Partial<NewJob> = {},
): Promise<EnqueuedJob> {
  const [enqueued] = await store.enqueue(scope, [newJob(job)])
  assert.ok(enqueued)
  return enqueued
}

/** A claim of one job of the queue `q`. */
export function claimOf(claim: Partial<JobClaim> = {}): JobClaim {
  return { workerId: "worker", queues: ["q"], max: 1, ...claim }
}

/** What the holder of a claimed job has to show. */
export function leaseOf(claimed: ClaimedJob | undefined) {
  return { jobId: claimed?.job.id ?? "", token: claimed?.leaseToken ?? "" }
}

/** A payload that deepEqual can compare. */
export function plain(payload: JobPayload | undefined) {
  return payload?.kind === "binary" ? { ...payload, bytes: [...payload.bytes] } : payload
}

/** The scope of a call with a request_id; `body` stands for the rest of the request. */
export function withRequestId(scope: CallScope, method: string, requestId: string, body: number): CallScope {
  const bodyHash = new Uint8Array(32).fill(body)
  return { ...scope, idempotency: { method: `keelplane.v1.JobService/${method}`, requestId, bodyHash } }
}

/** Asserts that a call fails with a reason. */
export async function rejects(call: Promise<unknown>, reason: Reason): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return true
  })
}

/** Resolves when the condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
