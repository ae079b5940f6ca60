/** Handing out due jobs. */
import type { ClaimedJob } from "../../domain/event/job-model.ts"
import type { JobClaim } from "../../domain/event/job-ports.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Statement } from "./database.ts"
import { JOB_COLUMNS, type JobRow, jobOf } from "./job-rows.ts"

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
  return {
    name: "job_claim",
    text: `with t as (
        select date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp())) as now
      ), due as (
        select d.id, d.available_at from jobs d
        where d.tenant = $1 and d.queue = any($3::text[])
          and d.available_at <= date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp()))
          and d.attempts_left > 0 and not d.cancel_requested
        order by d.priority desc, d.available_at, d.id limit $4 for update skip locked
      )
      update jobs j set status = 'running', worker = $5, attempts = j.attempts + 1, attempts_left = j.attempts_left - 1,
        held_ms = coalesce($6::bigint, j.lease_ms), lease_token = gen_random_uuid()::text,
        available_at = t.now + coalesce($6::bigint, j.lease_ms) * interval '1 ms', started_at = t.now,
        progress = null, revision = j.revision + 1,
        history = case when j.status = 'running' then job_history(j.history, ${LOST_ATTEMPT}) else j.history end
      from due, t where j.tenant = $1 and j.id = due.id
      returning ${JOB_COLUMNS}, j.lease_token, due.available_at as due_at`,
    values: [tenant, now, claim.queues, claim.max, claim.workerId, claim.leaseMs ?? null],
  }
}

/** The history entry of a running job `j` whose lease has elapsed. */
export const LOST_ATTEMPT = `json_build_object('number', j.attempts, 'worker', j.worker,
  'start', (extract(epoch from j.started_at) * 1000)::bigint, 'end', (extract(epoch from j.available_at) * 1000)::bigint,
  'outcome', 'lease_expired')`

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
