/** What became of jobs, kept when the queue has let go of them. */
import { DomainError } from "../kernel/errors.ts"
import { structBytes } from "../kernel/json-size.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import { hasEnded, type Job, type JobFailure, type JobPayload } from "./job-model.ts"
import type { JobQuery } from "./job-ports.ts"

/** How long jobs are kept where nobody says otherwise: a year. */
export const JOB_HISTORY_MS = 365 * 86_400_000

/** How long the jobs of some tenants are kept: the longest after they have come here, and after their end where they do not say. */
export interface JobLife {
  /** The tenants' class; undefined for those in none. */
  readonly className?: string | undefined
  readonly ms: number
}

/** Most jobs in one append. */
export const JOB_HISTORY_BATCH_MAX = 100

/**
 * Jobs that have ended, each as it ended last. A job whose time here is over does not exist. Every method rejects with
 * STORE_UNAVAILABLE when nothing was applied for want of the store.
 */
export interface JobHistory {
  /**
   * Keeps up to {@link JOB_HISTORY_BATCH_MAX} jobs; durable, and on its list, when it resolves. Repeating it has no further effect,
   * and neither has an earlier end of a job that was retried since. After a failure some may be kept. FAILED_PRECONDITION for a job
   * that has not ended.
   */
  append(scope: CallScope, jobs: readonly Job[]): Promise<void>
  /** Undefined when it does not exist. */
  get(scope: CallScope, jobId: string): Promise<Job | undefined>
  /**
   * Newest first, as JobStore.list. Cut at about MAX_JOBS_BYTES; may be short, or empty, and go on. The cursor is the last id that was
   * looked at. With `from` it ends at that id, which is on it.
   */
  list(scope: CallScope, query: JobQuery, page: PageRequest, from?: string): Promise<Page<Job>>
}

/** What the methods of {@link JobHistory} do. */
export const JOB_HISTORY_OPERATIONS: Operations<JobHistory> = {
  append: "repeatable",
  get: "read",
  list: "read",
}

/** A job with its end. */
export interface EndedJob extends Job {
  readonly endMs: number
  readonly expireMs: number
}

/** The job as a history keeps it that takes it now. Throws FAILED_PRECONDITION where it has not ended. */
export function endedJob(job: Job, lifeMs: number, nowMs: number): EndedJob {
  const { endMs, expireMs } = job
  if (!hasEnded(job.status) || endMs === undefined) {
    throw new DomainError("FAILED_PRECONDITION", `job "${job.id}" has not ended`, {
      metadata: { resource: "job", name: job.id, state: job.status },
    })
  }
  const lastMs = Math.max(endMs, nowMs) + lifeMs
  return { ...job, endMs, expireMs: Math.min(expireMs ?? endMs + lifeMs, lastMs) }
}

/** Ids, names, times and counts. */
const JOB_BYTES = 2_048
const ATTEMPT_BYTES = 512

/** Bytes of a job in an answer, at most. */
export function jobBytes(job: Job): number {
  const { progress, error, payload, result, history } = job
  const attempts = history.reduce((sum, attempt) => sum + ATTEMPT_BYTES + failureBytes(attempt.error), 0)
  const open = progress === undefined ? 0 : structBytes(progress)
  return JOB_BYTES + open + failureBytes(error) + payloadBytes(payload) + payloadBytes(result) + attempts
}

function failureBytes(failure: JobFailure | undefined): number {
  if (failure === undefined) return 0
  const { message, code, details } = failure
  return (
    Buffer.byteLength(message) + Buffer.byteLength(code) + (details === undefined ? 0 : structBytes(details))
  )
}

function payloadBytes(payload: JobPayload | undefined): number {
  if (payload === undefined) return 0
  return payload.kind === "json" ? structBytes(payload.value) : payload.bytes.length
}
