/** Rows of the jobs table as jobs, and jobs as rows. */
import type {
  Job,
  JobAttempt,
  JobAttemptOutcome,
  JobBackoff,
  JobFailure,
  JobPayload,
  JobStatus,
} from "../../domain/event/job-model.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { structBytes } from "../../domain/kernel/json-size.ts"

/** A row of {@link JOB_COLUMNS} or {@link JOB_COLUMNS_BASIC}. */
export interface JobRow {
  readonly id: string
  readonly queue: string
  readonly status: JobStatus
  readonly priority: number
  readonly available_at: Date | null
  readonly max_attempts: number
  readonly attempts: number
  readonly attempts_left: number
  readonly dedupe_key: string | null
  readonly backoff: { initial: number; maximum: number; multiplier: number }
  readonly lease_ms: bigint
  readonly worker: string | null
  readonly cancel_requested: boolean
  readonly payload_kind: string | null
  readonly payload: Buffer | null
  readonly payload_type: string | null
  readonly result_kind: string | null
  readonly result: Buffer | null
  readonly result_type: string | null
  readonly progress: string | null
  readonly error: string | null
  readonly cost_amount: string | null
  readonly cost_currency: string | null
  readonly history: readonly AttemptJson[] | null
  readonly created_at: Date
  readonly started_at: Date | null
  readonly ended_at: Date | null
  readonly expires_at: Date | null
  readonly revision: bigint
}

/** An entry of the history column. */
interface AttemptJson {
  readonly number: number
  readonly worker: string
  readonly start: number
  readonly end: number
  readonly outcome: JobAttemptOutcome
  readonly error?: JobFailure | null
}

const COMMON = `j.id, j.queue, j.status, j.priority, j.available_at, j.max_attempts, j.attempts, j.attempts_left,
  j.dedupe_key, j.backoff, j.lease_ms, j.worker, j.cancel_requested, j.progress, j.error, j.cost_amount, j.cost_currency,
  j.created_at, j.started_at, j.ended_at, j.expires_at, j.revision`

/** Everything of a job, from the table aliased `j`. */
export const JOB_COLUMNS = `${COMMON}, j.payload_kind, j.payload, j.payload_type, j.result_kind, j.result, j.result_type,
  array_to_json(j.history) as history`

/** Everything but payload, result and history. */
export const JOB_COLUMNS_BASIC = `${COMMON}, null as payload_kind, null::bytea as payload, null as payload_type,
  null as result_kind, null::bytea as result, null as result_type, null::json as history`

// JSON text grows less than sixfold on the wire, and none of these is larger than its cap, whatever its text.
const onWire = (json: string, cap: string) => `least(coalesce(octet_length(${json}), 0) * 6, ${cap})`

/** Bytes on the wire of a job from the table aliased `j`, at most: of everything in {@link JOB_COLUMNS_BASIC}. */
export const JOB_BYTES_BASIC = `(2048 + ${onWire("j.error", "32768")} + ${onWire("j.progress", "32768")})`

/** The same of everything in {@link JOB_COLUMNS}. */
export const JOB_BYTES = `(${JOB_BYTES_BASIC} + j.payload_size + j.result_size
  + ${onWire("array_to_json(j.history)::text", "cardinality(j.history) * 32768")})`

/** The job in a row. */
export function jobOf(row: JobRow): Job {
  const { initial, maximum, multiplier } = row.backoff
  const cost =
    row.cost_amount === null || row.cost_currency === null
      ? undefined
      : { amount: row.cost_amount, currency: row.cost_currency }
  return {
    id: row.id,
    queue: row.queue,
    status: row.status,
    priority: row.priority,
    payload: payloadOf(row.payload_kind, row.payload, row.payload_type),
    availableMs: row.available_at?.getTime(),
    maxAttempts: row.max_attempts,
    attempts: row.attempts,
    attemptsLeft: row.attempts_left,
    dedupeKey: row.dedupe_key ?? undefined,
    backoff: { initialMs: initial, maximumMs: maximum, multiplier },
    leaseMs: Number(row.lease_ms),
    workerId: row.worker ?? undefined,
    cancelRequested: row.cancel_requested,
    progress: parseObject(row.progress),
    result: payloadOf(row.result_kind, row.result, row.result_type),
    error: row.error === null ? undefined : (JSON.parse(row.error) as JobFailure),
    cost,
    history: (row.history ?? []).map(attemptOf),
    createMs: row.created_at.getTime(),
    startMs: row.started_at?.getTime(),
    endMs: row.ended_at?.getTime(),
    expireMs: row.expires_at?.getTime(),
    revision: row.revision,
  }
}

function attemptOf(entry: AttemptJson): JobAttempt {
  const { number, worker, start, end, outcome, error } = entry
  return { number, workerId: worker, startMs: start, endMs: end, outcome, error: error ?? undefined }
}

function parseObject(text: string | null): JsonObject | undefined {
  return text === null ? undefined : (JSON.parse(text) as JsonObject)
}

/** A payload as its three columns hold it. */
export interface PayloadColumns {
  readonly kind: string | null
  readonly bytes: Uint8Array | null
  readonly type: string | null
  /** Bytes on the wire. */
  readonly size: number
}

/** The columns of a payload. */
export function payloadColumns(payload: JobPayload | undefined): PayloadColumns {
  if (payload === undefined) return { kind: null, bytes: null, type: null, size: 0 }
  if (payload.kind === "binary") {
    const { bytes, contentType } = payload
    return { kind: "binary", bytes, type: contentType, size: bytes.length + contentType.length }
  }
  const bytes = Buffer.from(JSON.stringify(payload.value))
  return { kind: "json", bytes, type: null, size: structBytes(payload.value) }
}

function payloadOf(kind: string | null, bytes: Buffer | null, type: string | null): JobPayload | undefined {
  if (kind === null || bytes === null) return undefined
  if (kind === "json") return { kind: "json", value: JSON.parse(bytes.toString()) as JsonObject }
  return { kind: "binary", bytes: new Uint8Array(bytes), contentType: type ?? "application/octet-stream" }
}

/** A backoff as its column holds it. */
export function backoffJson(backoff: JobBackoff): string {
  const { initialMs, maximumMs, multiplier } = backoff
  return JSON.stringify({ initial: initialMs, maximum: maximumMs, multiplier })
}
