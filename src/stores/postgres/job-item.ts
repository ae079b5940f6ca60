/** Jobs as the items of archives, which are rows in all but the types of their values. */
import type { ItemOf } from "../../domain/archive/model.ts"
import type { Job } from "../../domain/event/job-model.ts"
import { backoffJson, payloadColumns } from "./job-rows.ts"

/** A job that nobody holds. */
export function jobItem(job: Job): ItemOf<"job"> {
  const payload = payloadColumns(job.payload)
  const result = payloadColumns(job.result)
  return {
    id: job.id,
    queue: job.queue,
    status: job.status,
    priority: job.priority,
    availableTime: job.availableMs ?? null,
    maxAttempts: job.maxAttempts,
    attempts: job.attempts,
    attemptsLeft: job.attemptsLeft,
    dedupeKey: job.dedupeKey ?? null,
    // Made of numbers only.
    backoff: JSON.parse(backoffJson(job.backoff)) as ItemOf<"job">["backoff"],
    leaseMs: BigInt(job.leaseMs),
    cancelRequested: job.cancelRequested,
    payloadKind: payload.kind,
    payload: payload.bytes,
    payloadType: payload.type,
    payloadSize: payload.size,
    resultKind: result.kind,
    result: result.bytes,
    resultType: result.type,
    resultSize: result.size,
    progress: job.progress === undefined ? null : JSON.stringify(job.progress),
    error: job.error === undefined ? null : JSON.stringify(job.error),
    errorCode: job.error?.code ?? null,
    costAmount: job.cost?.amount ?? null,
    costCurrency: job.cost?.currency ?? null,
    history: job.history.map(({ number, workerId, startMs, endMs, outcome, error }) => ({
      number,
      worker: workerId,
      start: startMs,
      end: endMs,
      outcome,
      // The order of members that the queue itself writes.
      ...(error === undefined ? {} : { error: { ...error } }),
    })),
    createTime: job.createMs,
    startTime: job.startMs ?? null,
    endTime: job.endMs ?? null,
    expireTime: job.expireMs ?? null,
    revision: job.revision,
  }
}
