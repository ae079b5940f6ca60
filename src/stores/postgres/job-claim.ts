/** Handing out due jobs. */
import { type ClaimedJob, MAX_JOBS_BYTES } from "../../domain/event/job-model.ts"
import type { JobClaim } from "../../domain/event/job-ports.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Statement } from "./database.ts"
import { JOB_BYTES, JOB_COLUMNS, type JobRow, jobOf } from "./job-rows.ts"

/** What {@link claimStatement} answers. */
export interface ClaimRow extends JobRow {
  readonly lease_token: string
  readonly due_at: Date
}

/**
 * Takes due jobs in one statement. Rows that another claim is taking are skipped, not waited for. A job whose lease elapsed
 * is due from that moment; its lost attempt goes into its history.
 */
export function claimStatement(tenant: TenantId, claim: JobClaim, now: Date | null): Statement {
  const [queue] = claim.queues
  const one = claim.queues.length === 1
  return {
    name: one ? "job_claim" : "job_claim_any",
    text: one ? CLAIM_ONE : CLAIM_ANY,
    values: [
      tenant,
      now,
      one ? queue : claim.queues,
      claim.max,
      claim.workerId,
      claim.leaseMs ?? null,
      MAX_JOBS_BYTES,
    ],
  }
}

const NOW = "date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp()))"

// Each queue is walked along the index jobs_claim, which has this very order; one `any` over all queues would sort
// every job that is due.
const due = (queue: string) => `select j.id, j.priority, j.available_at, ${JOB_BYTES} as bytes from jobs j
  where j.tenant = $1 and j.queue = ${queue} and j.available_at <= ${NOW} and j.attempts_left > 0 and not j.cancel_requested
  order by j.priority desc, j.available_at, j.id limit $4 for update skip locked`

// A job beyond what one answer can carry stays due, with all its attempts.
const claimOf = (jobs: string) => `with due as (${jobs}),
  fitting as (select d.id, d.available_at from (
    select d.*, sum(d.bytes) over claimed as total, row_number() over claimed as place from due d
      window claimed as (order by d.priority desc, d.available_at, d.id)) d where d.place = 1 or d.total <= $7)
  update jobs j set status = 'running', worker = $5, attempts = j.attempts + 1, attempts_left = j.attempts_left - 1,
    held_ms = coalesce($6::bigint, j.lease_ms), lease_token = gen_random_uuid()::text,
    available_at = ${NOW} + coalesce($6::bigint, j.lease_ms) * interval '1 ms', started_at = ${NOW},
    progress = null, revision = j.revision + 1,
    history = case when j.status = 'running' then job_history(j.history, ${LOST_ATTEMPT}) else j.history end
  from fitting due where j.tenant = $1 and j.id = due.id
  returning ${JOB_COLUMNS}, j.lease_token, due.available_at as due_at`

/** The history entry of a running job `j` whose lease has elapsed. */
export const LOST_ATTEMPT = `json_build_object('number', j.attempts, 'worker', j.worker,
  'start', (extract(epoch from j.started_at) * 1000)::bigint, 'end', (extract(epoch from j.available_at) * 1000)::bigint,
  'outcome', 'lease_expired')`

const CLAIM_ONE = claimOf(due("$3::text"))

// May lock a few jobs more than it takes, for the length of this statement; other claims pass over them meanwhile.
const CLAIM_ANY =
  claimOf(`select q.* from unnest($3::text[]) as wanted(queue), lateral (${due("wanted.queue")}) q
  order by q.priority desc, q.available_at, q.id limit $4`)

/** Claimed jobs in the order of claiming; RETURNING has none. */
export function claimedJobs(rows: readonly ClaimRow[]): readonly ClaimedJob[] {
  return [...rows].sort(byClaimOrder).map((row) => ({
    job: jobOf(row),
    leaseToken: row.lease_token,
    leaseExpireMs: row.available_at?.getTime() ?? 0,
  }))
}

function byClaimOrder(a: ClaimRow, b: ClaimRow): number {
  return b.priority - a.priority || a.due_at.getTime() - b.due_at.getTime() || (a.id < b.id ? -1 : 1)
}
