/** What a query over jobs means, for jobs that no database looks through. */
import { type FieldValue, matchesFilter } from "../kernel/filter/index.ts"
import type { Job } from "./job-model.ts"
import type { JobQuery } from "./job-ports.ts"

/** Whether a list of `query` has the job. */
export function fitsJobQuery(job: Job, { queue, statuses, filter }: Omit<JobQuery, "full">): boolean {
  if (queue !== undefined && job.queue !== queue) return false
  if (statuses.length > 0 && !statuses.includes(job.status)) return false
  return filter === undefined || matchesFilter(filter, (field) => FIELDS[field]?.(job))
}

/** The fields of JOB_FILTER_FIELDS. */
const FIELDS: Readonly<Record<string, (job: Job) => FieldValue>> = {
  job_id: ({ id }) => id,
  queue: ({ queue }) => queue,
  status: ({ status }) => status,
  priority: ({ priority }) => priority,
  attempts: ({ attempts }) => attempts,
  worker_id: ({ workerId }) => workerId,
  dedupe_key: ({ dedupeKey }) => dedupeKey,
  error_code: ({ error }) => error?.code,
  create_time: ({ createMs }) => createMs,
  run_time: ({ availableMs }) => availableMs,
  end_time: ({ endMs }) => endMs,
}
