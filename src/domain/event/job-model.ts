/** Jobs as the domain sees them. Times are milliseconds since the epoch. */
import type { JsonObject } from "../kernel/json.ts"

/** Where a job stands. */
export type JobStatus = "queued" | "running" | "succeeded" | "failed" | "dead" | "cancelled"

/** All statuses, as filters name them. */
export const JOB_STATUSES: readonly JobStatus[] = [
  "queued",
  "running",
  "succeeded",
  "failed",
  "dead",
  "cancelled",
]

/** Whether a job in this status changes only by RetryJob. */
export function hasEnded(status: JobStatus): boolean {
  return status !== "queued" && status !== "running"
}

/** Input or result of a job. */
export type JobPayload =
  | { readonly kind: "json"; readonly value: JsonObject }
  | { readonly kind: "binary"; readonly bytes: Uint8Array; readonly contentType: string }

/** Waits between attempts; see {@link retryDelayMs} in ./job-backoff. */
export interface JobBackoff {
  readonly initialMs: number
  readonly maximumMs: number
  readonly multiplier: number
}

/** What a worker says about a failed attempt. */
export interface JobFailure {
  readonly message: string
  /** Empty: none. */
  readonly code: string
  readonly details?: JsonObject | undefined
}

/** What a job has cost. */
export interface JobCost {
  /** Decimal number as text, so that no digit is lost. */
  readonly amount: string
  readonly currency: string
}

/** How an attempt ended. */
export type JobAttemptOutcome = "succeeded" | "failed" | "lease_expired" | "cancelled"

/** An attempt that has ended. */
export interface JobAttempt {
  readonly number: number
  readonly workerId: string
  readonly startMs: number
  readonly endMs: number
  readonly outcome: JobAttemptOutcome
  readonly error?: JobFailure | undefined
}

/** About the most bytes that one answer with several jobs has on the wire; one job is always answered. */
export const MAX_JOBS_BYTES = 3_145_728

/** Most ended attempts that a job remembers. */
export const JOB_HISTORY_MAX = 20

/** A job to enqueue, defaults applied. */
export interface NewJob {
  readonly queue: string
  readonly payload?: JobPayload | undefined
  readonly priority: number
  /** At this time at the earliest; excludes `delayMs`. */
  readonly runAtMs?: number | undefined
  /** This long after it is enqueued at the earliest. */
  readonly delayMs?: number | undefined
  readonly maxAttempts: number
  readonly dedupeKey?: string | undefined
  readonly backoff: JobBackoff
  readonly leaseMs: number
}

/** A job and its state. */
export interface Job {
  readonly id: string
  readonly queue: string
  readonly status: JobStatus
  readonly priority: number
  readonly payload?: JobPayload | undefined
  /** When it may be claimed next; the end of the lease of a running job; absent once it has ended. */
  readonly availableMs?: number | undefined
  readonly maxAttempts: number
  readonly attempts: number
  readonly attemptsLeft: number
  readonly dedupeKey?: string | undefined
  readonly backoff: JobBackoff
  readonly leaseMs: number
  readonly workerId?: string | undefined
  readonly cancelRequested: boolean
  readonly progress?: JsonObject | undefined
  readonly result?: JobPayload | undefined
  readonly error?: JobFailure | undefined
  readonly cost?: JobCost | undefined
  /** Oldest first, at most {@link JOB_HISTORY_MAX}. */
  readonly history: readonly JobAttempt[]
  readonly createMs: number
  readonly startMs?: number | undefined
  readonly endMs?: number | undefined
  readonly expireMs?: number | undefined
  readonly revision: bigint
}

/** The outcome of one {@link NewJob}. */
export interface EnqueuedJob {
  readonly job: Job
  /** True when `job` was there before, unfinished, with the same dedupe key. */
  readonly deduplicated: boolean
}

/** A job under a lease. */
export interface ClaimedJob {
  readonly job: Job
  readonly leaseToken: string
  readonly leaseExpireMs: number
}
