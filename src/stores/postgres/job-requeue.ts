/** Queueing an ended job again. */
import type { Job } from "../../domain/event/job-model.ts"
import { alreadyExists, DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Tx } from "./database.ts"
import { isUniqueViolation } from "./errors.ts"
import { JOB_COLUMNS, type JobRow, jobOf } from "./job-rows.ts"

/**
 * Queues the job with a full set of attempts, after `prepare` has seen to it that its row is there and has ended. A repetition answers
 * the first outcome, whoever prepared it. `prepare` answers the time, null for the server's. ALREADY_EXISTS for a dedupe key.
 */
export async function requeueJob(
  database: Database,
  scope: CallScope,
  jobId: string,
  prepare: (tx: Tx) => Promise<Date | null>,
): Promise<Job> {
  try {
    return await database.mutate(scope, "jobs.retry", async (tx) => {
      const now = await prepare(tx)
      const { rows } = await tx.query<JobRow>({
        name: "job_retry",
        text: `update jobs j set status = 'queued', attempts_left = j.max_attempts, cancel_requested = false, ended_at = null,
            expires_at = null, revision = j.revision + 1,
            available_at = date_trunc('milliseconds', coalesce($3::timestamptz, statement_timestamp()))
          where j.tenant = $1 and j.id = $2 returning ${JOB_COLUMNS}`,
        values: [scope.tenant, jobId, now],
      })
      if (rows[0] === undefined) throw new DomainError("INTERNAL", "internal error")
      return jobOf(rows[0])
    })
  } catch (error) {
    if (isUniqueViolation(error, "jobs_dedupe")) {
      throw alreadyExists("unfinished job with the dedupe_key of job", jobId)
    }
    throw error
  }
}
