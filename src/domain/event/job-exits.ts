/** How ended jobs leave the queue, and come back. */
import type { Operations } from "../kernel/operations.ts"
import type { CallScope, TenantId } from "../kernel/scope.ts"
import type { Job } from "./job-model.ts"

/** Which jobs leave. */
export interface JobExit {
  /** How long they have stayed since their end, at least. */
  readonly stayMs: number
  /** For how long nobody else gets them. */
  readonly leaseMs: number
  /** Most jobs. */
  readonly max: number
}

/** A job that is being moved. */
export interface LeavingJob {
  readonly tenant: TenantId
  readonly job: Job
}

/** The queue's door to a history. Every method rejects with STORE_UNAVAILABLE when nothing was applied for want of the store. */
export interface JobExits {
  /**
   * Ended jobs that somebody shall move, whole, about in the order of their ends; for all tenants in the platform's scope. They stay
   * visible, and for `leaseMs` nobody else gets them. Cut at about MAX_JOBS_BYTES.
   */
  take(scope: CallScope, exit: JobExit): Promise<readonly LeavingJob[]>
  /** Removes jobs that are still as they were taken. Answers how many. */
  remove(scope: CallScope, jobs: readonly LeavingJob[]): Promise<number>
  /** Those of the jobs that the queue has, in no order, without payload, result and history. */
  find(scope: CallScope, jobIds: readonly string[]): Promise<readonly Job[]>
  /**
   * Queues a job that has left again, as JobStore.retry does with one that has not; scope.idempotency is the same to both.
   * ALREADY_EXISTS when its dedupe key is taken, FAILED_PRECONDITION when the queue has the job.
   */
  restore(scope: CallScope, job: Job): Promise<Job>
}

/** What the methods of {@link JobExits} do. */
export const JOB_EXITS_OPERATIONS: Operations<JobExits> = {
  take: "write",
  remove: "repeatable",
  find: "read",
  restore: "write",
}
