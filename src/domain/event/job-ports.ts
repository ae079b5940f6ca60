/** What the job queue needs of a store. */
import type { FieldTable, Filter } from "../kernel/filter/index.ts"
import type { JsonObject } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import {
  type ClaimedJob,
  type EnqueuedJob,
  JOB_STATUSES,
  type Job,
  type JobCost,
  type JobFailure,
  type JobPayload,
  type JobStatus,
  type NewJob,
} from "./job-model.ts"

/** The fields that a filter over jobs may name. */
export const JOB_FILTER_FIELDS: FieldTable = {
  job_id: { type: "string" },
  queue: { type: "string" },
  status: { type: "enum", values: JOB_STATUSES },
  priority: { type: "int" },
  attempts: { type: "int" },
  worker_id: { type: "string" },
  dedupe_key: { type: "string" },
  error_code: { type: "string" },
  create_time: { type: "timestamp" },
  run_time: { type: "timestamp" },
  end_time: { type: "timestamp" },
}

/** Which jobs to list. */
export interface JobQuery {
  readonly queue?: string | undefined
  /** Empty: any. */
  readonly statuses: readonly JobStatus[]
  /** Over {@link JOB_FILTER_FIELDS}. */
  readonly filter?: Filter | undefined
  /** False leaves out payload, result and history. */
  readonly full: boolean
}

/** What a worker asks for. */
export interface JobClaim {
  readonly workerId: string
  readonly queues: readonly string[]
  readonly max: number
  /** Undefined: each job's own. */
  readonly leaseMs?: number | undefined
}

/** The right to work on a job. */
export interface JobLease {
  readonly jobId: string
  readonly token: string
}

/** The outcome of a heartbeat. */
export interface JobPulse {
  readonly leaseExpireMs: number
  readonly cancelRequested: boolean
}

/** The outcome of a sweep. */
export interface JobSweep {
  /** Jobs whose lease had elapsed and that are queued again, dead or cancelled now. */
  readonly expired: number
  /** Jobs removed after their retention. */
  readonly removed: number
}

/**
 * Durable jobs. Every method rejects with STORE_UNAVAILABLE when nothing was applied for want of the store, and every
 * mutation replays its first result for a repeated scope.idempotency (REQUEST_ID_REUSED for another body).
 * A job whose retention has ended does not exist.
 */
export interface JobStore {
  /** Adds all or none, in order. A job whose dedupe key an unfinished job of its queue has is answered as that job. */
  enqueue(scope: CallScope, jobs: readonly NewJob[]): Promise<readonly EnqueuedJob[]>
  /** Undefined when it does not exist. */
  get(scope: CallScope, jobId: string): Promise<Job | undefined>
  /** Newest first. Cut at about MAX_JOBS_BYTES, like a claim. */
  list(scope: CallScope, query: JobQuery, page: PageRequest): Promise<Page<Job>>
  /**
   * Takes due jobs, by priority (higher first), then time, then id; also jobs whose lease has elapsed while attempts are
   * left. No job ever has two holders. An empty answer is not kept under scope.idempotency.
   */
  claim(scope: CallScope, claim: JobClaim): Promise<readonly ClaimedJob[]>
  /** Extends the lease from now. NOT_FOUND; LEASE_LOST. */
  heartbeat(
    scope: CallScope,
    lease: JobLease,
    pulse: { readonly leaseMs?: number | undefined; readonly progress?: JsonObject | undefined },
  ): Promise<JobPulse>
  /** Ends with success. NOT_FOUND; LEASE_LOST. */
  complete(
    scope: CallScope,
    lease: JobLease,
    outcome: { readonly result?: JobPayload | undefined; readonly cost?: JobCost | undefined },
  ): Promise<Job>
  /** Ends an attempt; what becomes of the job is told at JobService.FailJob. NOT_FOUND; LEASE_LOST. */
  fail(
    scope: CallScope,
    lease: JobLease,
    failure: {
      readonly error: JobFailure
      readonly retryable: boolean
      readonly retryDelayMs?: number | undefined
      readonly cost?: JobCost | undefined
    },
  ): Promise<Job>
  /** NOT_FOUND; FAILED_PRECONDITION when it has ended otherwise. */
  cancel(scope: CallScope, jobId: string): Promise<Job>
  /** NOT_FOUND; FAILED_PRECONDITION unless failed, dead or cancelled; ALREADY_EXISTS when its dedupe key is taken. */
  retry(scope: CallScope, jobId: string): Promise<Job>
  /** Settles elapsed leases and removes what is past its retention, at most `limit` of each; for all tenants in the platform's scope. */
  sweep(scope: CallScope, limit: number): Promise<JobSweep>
}

/** What the methods of {@link JobStore} do. */
export const JOB_STORE_OPERATIONS: Operations<JobStore> = {
  enqueue: "write",
  claim: "write",
  heartbeat: "write",
  complete: "write",
  fail: "write",
  cancel: "write",
  retry: "write",
  sweep: "write",
  get: "read",
  list: "read",
}
