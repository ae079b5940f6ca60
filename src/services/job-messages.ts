/** Jobs between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import {
  type Duration,
  durationFromMs,
  durationMs,
  timestampFromMs,
  timestampMs,
} from "@bufbuild/protobuf/wkt"
import type {
  ClaimedJob,
  JobStatus as DomainStatus,
  EnqueuedJob,
  Job,
  JobAttempt,
  JobBackoff,
  JobCost,
  JobFailure,
  JobPayload,
  NewJob,
} from "../domain/event/job-model.ts"
import { invalidField, limitExceeded } from "../domain/kernel/errors.ts"
import type { JsonObject } from "../domain/kernel/json.ts"
import { structBytes } from "../domain/kernel/json-size.ts"
import {
  type ClaimedJobSchema,
  JobAttemptOutcome,
  type JobAttemptSchema,
  type JobBackoffSchema,
  type JobCostSchema,
  type JobErrorSchema,
  type JobPayloadSchema,
  type JobSchema,
  JobStatus,
  type NewJobSchema,
} from "../gen/keelplane/v1/job_service_pb.ts"

const DEFAULT_BACKOFF: JobBackoff = { initialMs: 1_000, maximumMs: 300_000, multiplier: 2 }
const DEFAULT_LEASE_MS = 60_000
const DEFAULT_ATTEMPTS = 5
const PAYLOAD_MAX_BYTES = 1024 * 1024
const DETAILS_MAX_BYTES = 16 * 1024

const STATUS_OF: ReadonlyMap<number, DomainStatus> = new Map([
  [JobStatus.QUEUED, "queued"],
  [JobStatus.RUNNING, "running"],
  [JobStatus.SUCCEEDED, "succeeded"],
  [JobStatus.FAILED, "failed"],
  [JobStatus.DEAD, "dead"],
  [JobStatus.CANCELLED, "cancelled"],
])

const STATUS_TO = {
  queued: JobStatus.QUEUED,
  running: JobStatus.RUNNING,
  succeeded: JobStatus.SUCCEEDED,
  failed: JobStatus.FAILED,
  dead: JobStatus.DEAD,
  cancelled: JobStatus.CANCELLED,
} as const

const OUTCOME_TO = {
  succeeded: JobAttemptOutcome.SUCCEEDED,
  failed: JobAttemptOutcome.FAILED,
  lease_expired: JobAttemptOutcome.LEASE_EXPIRED,
  cancelled: JobAttemptOutcome.CANCELLED,
} as const

/** The domain's statuses; validation has refused unknown ones. */
export function statusesOf(statuses: readonly JobStatus[]): DomainStatus[] {
  return statuses.flatMap((status) => STATUS_OF.get(status) ?? [])
}

/** A duration in whole milliseconds; undefined for none. */
export function wholeMs(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : Math.round(durationMs(duration))
}

/** A NewJob with its defaults. `path` leads to it in the request. */
export function newJobOf(message: MessageShape<typeof NewJobSchema>, path: string): NewJob {
  const { schedule } = message
  return {
    queue: message.queue,
    payload: payloadOf(message.payload, `${path}.payload`),
    priority: message.priority,
    runAtMs: schedule.case === "runTime" ? timestampMs(schedule.value) : undefined,
    delayMs: schedule.case === "delay" ? wholeMs(schedule.value) : undefined,
    maxAttempts: message.maxAttempts === 0 ? DEFAULT_ATTEMPTS : message.maxAttempts,
    dedupeKey: message.dedupeKey === "" ? undefined : message.dedupeKey,
    backoff: backoffOf(message.backoff),
    leaseMs: wholeMs(message.lease) ?? DEFAULT_LEASE_MS,
  }
}

function backoffOf(message: MessageShape<typeof JobBackoffSchema> | undefined): JobBackoff {
  if (message === undefined) return DEFAULT_BACKOFF
  const { initial, maximum, multiplier } = message
  return {
    initialMs: wholeMs(initial) ?? DEFAULT_BACKOFF.initialMs,
    maximumMs: wholeMs(maximum) ?? DEFAULT_BACKOFF.maximumMs,
    multiplier: multiplier === 0 ? DEFAULT_BACKOFF.multiplier : multiplier,
  }
}

/** A payload or result; undefined for an absent or empty one. */
export function payloadOf(
  message: MessageShape<typeof JobPayloadSchema> | undefined,
  path: string,
): JobPayload | undefined {
  if (message === undefined) return undefined
  const { kind, contentType } = message
  if (kind.case === "binary") {
    return {
      kind: "binary",
      bytes: kind.value,
      contentType: contentType === "" ? "application/octet-stream" : contentType,
    }
  }
  if (contentType !== "") throw invalidField(`${path}.content_type`, "goes with binary only")
  if (kind.case !== "data") return undefined
  requireJsonSize(kind.value, `${path}.data`, PAYLOAD_MAX_BYTES)
  return { kind: "json", value: kind.value }
}

/** Throws LIMIT_EXCEEDED when `value` is larger than `maximum` bytes, as JSON or on the wire. */
export function requireJsonSize(value: JsonObject, path: string, maximum: number): void {
  const bytes = Math.max(Buffer.byteLength(JSON.stringify(value)), structBytes(value))
  if (bytes > maximum) throw limitExceeded(path, bytes, maximum)
}

/** What a worker says about a failed attempt. */
export function failureOf(message: MessageShape<typeof JobErrorSchema>): JobFailure {
  if (message.details !== undefined) requireJsonSize(message.details, "error.details", DETAILS_MAX_BYTES)
  return { message: message.message, code: message.code, details: message.details }
}

/** A cost; undefined for none. */
export function costOf(message: MessageShape<typeof JobCostSchema> | undefined): JobCost | undefined {
  return message === undefined ? undefined : { amount: message.amount, currency: message.currency }
}

/** A job as callers see it. */
export function jobMessage(job: Job): MessageInitShape<typeof JobSchema> {
  return {
    jobId: job.id,
    queue: job.queue,
    status: STATUS_TO[job.status],
    priority: job.priority,
    payload: payloadMessage(job.payload),
    runTime: time(job.availableMs),
    maxAttempts: job.maxAttempts,
    attempts: job.attempts,
    attemptsLeft: job.attemptsLeft,
    dedupeKey: job.dedupeKey ?? "",
    backoff: {
      initial: durationFromMs(job.backoff.initialMs),
      maximum: durationFromMs(job.backoff.maximumMs),
      multiplier: job.backoff.multiplier,
    },
    lease: durationFromMs(job.leaseMs),
    workerId: job.workerId ?? "",
    cancelRequested: job.cancelRequested,
    progress: job.progress,
    result: payloadMessage(job.result),
    error: job.error,
    cost: job.cost,
    history: job.history.map(attemptMessage),
    createTime: timestampFromMs(job.createMs),
    startTime: time(job.startMs),
    endTime: time(job.endMs),
    expireTime: time(job.expireMs),
    revision: job.revision,
  }
}

/** A job as the answer to a change of it: without what callers have sent, which may not fit once more. */
export function changedMessage(job: Job): MessageInitShape<typeof JobSchema> {
  return jobMessage({ ...job, payload: undefined, result: undefined })
}

/** A job as the answer to enqueueing, small enough for 500 in one answer: without what its attempts have left. */
export function enqueuedMessage({ job, deduplicated }: EnqueuedJob) {
  return { job: changedMessage({ ...job, progress: undefined, error: undefined, history: [] }), deduplicated }
}

/** A claimed job as its worker sees it. */
export function claimedMessage(claimed: ClaimedJob): MessageInitShape<typeof ClaimedJobSchema> {
  return {
    job: jobMessage(claimed.job),
    leaseToken: claimed.leaseToken,
    leaseExpireTime: timestampFromMs(claimed.leaseExpireMs),
  }
}

function attemptMessage(attempt: JobAttempt): MessageInitShape<typeof JobAttemptSchema> {
  return {
    number: attempt.number,
    workerId: attempt.workerId,
    startTime: timestampFromMs(attempt.startMs),
    endTime: timestampFromMs(attempt.endMs),
    outcome: OUTCOME_TO[attempt.outcome],
    error: attempt.error,
  }
}

function payloadMessage(
  payload: JobPayload | undefined,
): MessageInitShape<typeof JobPayloadSchema> | undefined {
  if (payload === undefined) return undefined
  if (payload.kind === "json") return { kind: { case: "data", value: payload.value } }
  const bytes = new Uint8Array(payload.bytes)
  return { kind: { case: "binary", value: bytes }, contentType: payload.contentType }
}

function time(ms: number | undefined) {
  return ms === undefined ? undefined : timestampFromMs(ms)
}
