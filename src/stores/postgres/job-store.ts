/** Jobs in PostgreSQL. */
import { retryDelayMs } from "../../domain/event/job-backoff.ts"
import { jobLeaseLost, wrongJobStatus } from "../../domain/event/job-errors.ts"
import {
  type ClaimedJob,
  type Job,
  type JobFailure,
  type JobStatus,
  MAX_JOBS_BYTES,
} from "../../domain/event/job-model.ts"
import type { JobClaim, JobLease, JobQuery, JobStore, JobSweep } from "../../domain/event/job-ports.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { ByTenant } from "../../domain/kernel/tenant-classes.ts"
import type { Database, Tx } from "./database.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"
import { type ClaimRow, claimedJobs, claimStatement, LOST_ATTEMPT } from "./job-claim.ts"
import { enqueueJobs } from "./job-enqueue.ts"
import { requeueJob } from "./job-requeue.ts"
import {
  JOB_BYTES,
  JOB_BYTES_BASIC,
  JOB_COLUMNS,
  JOB_COLUMNS_BASIC,
  type JobRow,
  jobOf,
  type PayloadColumns,
  payloadColumns,
} from "./job-rows.ts"
import { type SizedRow, sizedPageSql, sizedRows } from "./sized-page.ts"
import { classColumns, classValueSql } from "./tenant-classes.ts"

/** How {@link createPostgresJobStore} works. */
export interface PostgresJobStoreOptions {
  /** For tests. By default the database's clock decides about leases, so that daemons need not agree about the time. */
  readonly clock?: Clock | undefined
  /** How long an ended job is kept, in milliseconds. Default: 365 days. */
  readonly retentionMs?: ByTenant<number> | undefined
  /** From 0 to 1, spreads retries. Default: Math.random. */
  readonly random?: (() => number) | undefined
}

const YEAR_MS = 365 * 24 * 3_600_000

/** A {@link JobStore} over `database`. */
export function createPostgresJobStore(database: Database, options: PostgresJobStoreOptions = {}): JobStore {
  return new PostgresJobStore(database, options)
}

// The time of a statement: the injected clock's in $2, or the server's.
const NOW = "date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp()))"

// How long a sweep of all tenants has the job `j` kept.
const RETENTION = `coalesce(${classValueSql("j.tenant", "$5::text[]", "$6::bigint[]")}, $4)`

const FILTER_COLUMNS: FilterColumns = {
  job_id: { sql: "j.id" },
  queue: { sql: "j.queue" },
  status: { sql: "j.status" },
  priority: { sql: "j.priority" },
  attempts: { sql: "j.attempts" },
  worker_id: { sql: "j.worker" },
  dedupe_key: { sql: "j.dedupe_key" },
  error_code: { sql: "j.error_code" },
  create_time: { sql: "j.created_at" },
  run_time: { sql: "j.available_at" },
  end_time: { sql: "j.ended_at" },
}

/** A job's row under lock, with what its lease needs. */
interface LockedRow extends JobRow {
  readonly lease_token: string | null
  readonly held_ms: bigint | null
  readonly now: Date
}

/** A job's row: under lock when it fits what was asked for. */
interface Looked {
  readonly fits: boolean
  readonly row: LockedRow
}

class PostgresJobStore implements JobStore {
  readonly #database: Database
  readonly #clock: Clock | undefined
  readonly #retentionMs: ByTenant<number>
  readonly #random: () => number

  constructor(database: Database, options: PostgresJobStoreOptions) {
    this.#database = database
    this.#clock = options.clock
    this.#retentionMs = options.retentionMs ?? new ByTenant(YEAR_MS)
    this.#random = options.random ?? Math.random
  }

  enqueue: JobStore["enqueue"] = (scope, jobs) =>
    this.#database.mutate(scope, "jobs.enqueue", (tx) => enqueueJobs(tx, jobs, this.#now()))

  get: JobStore["get"] = async (scope, jobId) => {
    const { rows } = await this.#database.query<JobRow>(scope, {
      name: "job_get",
      text: `select ${JOB_COLUMNS} from jobs j
        where j.tenant = $1 and j.id = $3 and (j.expires_at is null or j.expires_at > ${NOW})`,
      values: [scope.tenant, this.#now(), jobId],
    })
    return rows[0] === undefined ? undefined : jobOf(rows[0])
  }

  async list(scope: CallScope, query: JobQuery, page: PageRequest): Promise<Page<Job>> {
    const values: unknown[] = [scope.tenant, this.#now(), page.size + 1]
    const conditions = [`j.tenant = $1 and (j.expires_at is null or j.expires_at > ${NOW})`]
    if (query.queue !== undefined) conditions.push(`j.queue = $${values.push(query.queue)}`)
    if (query.statuses.length > 0) conditions.push(`j.status = any($${values.push(query.statuses)}::text[])`)
    if (query.filter !== undefined) conditions.push(filterSql(query.filter, FILTER_COLUMNS, values))
    if (page.cursor?.[0] !== undefined) conditions.push(`j.id < $${values.push(page.cursor[0])}`)
    const { rows } = await this.#database.query<JobRow & SizedRow>(scope, {
      text: sizedPageSql({
        table: "jobs",
        alias: "j",
        columns: query.full ? JOB_COLUMNS : JOB_COLUMNS_BASIC,
        where: conditions.join(" and "),
        order: "j.id desc",
        bytes: query.full ? JOB_BYTES : JOB_BYTES_BASIC,
        limit: "$3",
        maxBytes: MAX_JOBS_BYTES,
      }),
      values,
    })
    const found = sizedRows(rows, page.size)
    const items = found.items.map(jobOf)
    const last = items.at(-1)
    return found.more && last !== undefined ? { items, next: [last.id] } : { items }
  }

  async claim(scope: CallScope, claim: JobClaim): Promise<readonly ClaimedJob[]> {
    const statement = claimStatement(scope.tenant, claim, this.#now())
    if (scope.idempotency === undefined) {
      return claimedJobs((await this.#database.query<ClaimRow>(scope, statement)).rows)
    }
    // Rolling back an empty claim keeps it from becoming the answer for ever.
    const nothing = new DomainError("NOT_FOUND", "no job is due")
    try {
      return await this.#database.mutate(scope, "jobs.claim", async (tx) => {
        const { rows } = await tx.query<ClaimRow>(statement)
        if (rows.length === 0) throw nothing
        return claimedJobs(rows)
      })
    } catch (error) {
      if (error === nothing) return []
      throw error
    }
  }

  heartbeat: JobStore["heartbeat"] = (scope, lease, pulse) =>
    this.#database.mutate(scope, "jobs.heartbeat", async (tx) => {
      const held = await this.#held(tx, lease)
      const leaseMs = pulse.leaseMs ?? Number(held.held_ms ?? held.lease_ms)
      const leaseExpireMs = held.now.getTime() + leaseMs
      await tx.query({
        name: "job_heartbeat",
        text: `update jobs set available_at = $3, held_ms = $4, progress = coalesce($5, progress),
          revision = revision + 1 where tenant = $1 and id = $2`,
        values: [
          scope.tenant,
          lease.jobId,
          new Date(leaseExpireMs),
          leaseMs,
          pulse.progress === undefined ? null : JSON.stringify(pulse.progress),
        ],
      })
      return { leaseExpireMs, cancelRequested: held.cancel_requested }
    })

  complete: JobStore["complete"] = (scope, lease, outcome) =>
    this.#database.mutate(scope, "jobs.complete", async (tx) => {
      const held = await this.#held(tx, lease)
      const result = payloadColumns(outcome.result)
      return this.#end(tx, held, "succeeded", {
        attempt: attemptJson(held, "succeeded"),
        result,
        cost: outcome.cost,
      })
    })

  fail: JobStore["fail"] = (scope, lease, failure) =>
    this.#database.mutate(scope, "jobs.fail", async (tx) => {
      const held = await this.#held(tx, lease)
      const outcome = held.cancel_requested ? "cancelled" : "failed"
      const changes = {
        attempt: attemptJson(held, outcome, failure.error),
        error: failure.error,
        cost: failure.cost,
      }
      if (held.cancel_requested) return this.#end(tx, held, "cancelled", changes)
      if (!failure.retryable) return this.#end(tx, held, "failed", changes)
      if (held.attempts_left <= 0) return this.#end(tx, held, "dead", changes)
      const { backoff } = jobOf(held)
      const round = held.max_attempts - held.attempts_left
      const delay = failure.retryDelayMs ?? retryDelayMs(backoff, round, this.#random())
      return this.#update(tx, held.id, "queued", changes, {
        availableAt: new Date(held.now.getTime() + delay),
        endedAt: null,
        expiresAt: null,
      })
    })

  cancel: JobStore["cancel"] = (scope, jobId) =>
    this.#database.mutate(scope, "jobs.cancel", async (tx) => {
      const { fits, row } = await this.#lock(tx, jobId, "j.status in ('queued', 'running')")
      if (row.status === "cancelled" || (row.status === "running" && row.cancel_requested)) return jobOf(row)
      if (!fits) throw wrongJobStatus(row, "cancelled")
      if (row.status === "queued") return this.#end(tx, row, "cancelled", {})
      const { rows } = await tx.query<JobRow>({
        name: "job_request_cancel",
        text: `update jobs j set cancel_requested = true, revision = j.revision + 1
          where j.tenant = $1 and j.id = $2 returning ${JOB_COLUMNS}`,
        values: [scope.tenant, jobId],
      })
      return jobOf(first(rows))
    })

  retry: JobStore["retry"] = (scope, jobId) =>
    requeueJob(this.#database, scope, jobId, async (tx) => {
      const { fits, row } = await this.#lock(tx, jobId, "j.status in ('failed', 'dead', 'cancelled')")
      if (!fits) throw wrongJobStatus(row, "retried")
      return row.now
    })

  async sweep(scope: CallScope, limit: number): Promise<JobSweep> {
    const [expired, removed] = await this.#database.pipeline(scope, [
      {
        name: "job_sweep_leases",
        text: `with lost as (
            select d.tenant, d.id from jobs d where d.status = 'running' and (d.tenant = $1 or $1 = '*')
              and d.available_at <= ${NOW} order by d.available_at limit $3 for update skip locked
          )
          update jobs j set revision = j.revision + 1, worker = null, lease_token = null, cancel_requested = false,
            history = job_history(j.history, ${LOST_ATTEMPT}),
            status = ${AFTER_LOSS},
            available_at = case when ${AFTER_LOSS} = 'queued' then j.available_at end,
            ended_at = case when ${AFTER_LOSS} = 'queued' then null else ${NOW} end,
            expires_at = case when ${AFTER_LOSS} = 'queued' then null else ${NOW} + ${RETENTION} * interval '1 ms' end
          from lost where j.tenant = lost.tenant and j.id = lost.id`,
        values: [
          scope.tenant,
          this.#now(),
          limit,
          this.#retentionMs.others,
          ...classColumns(this.#retentionMs),
        ],
      },
      {
        name: "job_sweep_expired",
        text: `with old as (
            select d.tenant, d.id from jobs d where d.expires_at <= ${NOW} and (d.tenant = $1 or $1 = '*')
            order by d.expires_at limit $3 for update skip locked
          )
          delete from jobs j using old where j.tenant = old.tenant and j.id = old.id`,
        values: [scope.tenant, this.#now(), limit],
      },
    ])
    return { expired: expired?.count ?? 0, removed: removed?.count ?? 0 }
  }

  #now(): Date | null {
    return this.#clock === undefined ? null : new Date(this.#clock.now())
  }

  /**
   * Locks the job's row if `condition` (over `j`, with `more` from $4 on) holds for it. A row that does not fit is only read:
   * locked until the rollback, it would be passed over by the claims of the meantime.
   */
  async #lock(tx: Tx, jobId: string, condition: string, more: readonly unknown[] = []): Promise<Looked> {
    const text = `select ${JOB_COLUMNS}, j.lease_token, j.held_ms, ${NOW} as now from jobs j
      where j.tenant = $1 and j.id = $3 and (j.expires_at is null or j.expires_at > ${NOW})`
    const values = [tx.scope.tenant, this.#now(), jobId]
    const locked = await tx.query<LockedRow>({
      text: `${text} and ${condition} for update`,
      values: [...values, ...more],
    })
    if (locked.rows[0] !== undefined) return { fits: true, row: locked.rows[0] }
    const { rows } = await tx.query<LockedRow>({ name: "job_look", text, values })
    if (rows[0] === undefined) throw notFound("job", jobId)
    return { fits: false, row: rows[0] }
  }

  async #held(tx: Tx, lease: JobLease): Promise<LockedRow> {
    const condition = `j.status = 'running' and j.lease_token = $4 and j.available_at > ${NOW}`
    const { fits, row } = await this.#lock(tx, lease.jobId, condition, [lease.token])
    if (fits) return row
    throw jobLeaseLost(lease.jobId)
  }

  #end(tx: Tx, row: LockedRow, status: JobStatus, changes: Changes): Promise<Job> {
    const expiresAt = new Date(row.now.getTime() + this.#retentionMs.of(tx.scope.tenant))
    return this.#update(tx, row.id, status, changes, { availableAt: null, endedAt: row.now, expiresAt })
  }

  async #update(
    tx: Tx,
    jobId: string,
    status: JobStatus,
    changes: Changes,
    times: { availableAt: Date | null; endedAt: Date | null; expiresAt: Date | null },
  ): Promise<Job> {
    const result = changes.result ?? payloadColumns(undefined)
    const { rows } = await tx.query<JobRow>({
      name: "job_leave",
      text: `update jobs j set status = $3, available_at = $4, ended_at = $5, expires_at = $6, worker = null,
          lease_token = null, cancel_requested = false, revision = j.revision + 1,
          history = case when $7::text is null then j.history else job_history(j.history, $7::json) end,
          error = coalesce($8, j.error), error_code = coalesce($9, j.error_code),
          cost_amount = coalesce($10, j.cost_amount), cost_currency = coalesce($11, j.cost_currency),
          result_kind = $12, result = $13, result_type = $14, result_size = $15
        where j.tenant = $1 and j.id = $2 returning ${JOB_COLUMNS}`,
      values: [
        tx.scope.tenant,
        jobId,
        status,
        times.availableAt,
        times.endedAt,
        times.expiresAt,
        changes.attempt ?? null,
        changes.error === undefined ? null : JSON.stringify(changes.error),
        changes.error?.code ?? null,
        changes.cost?.amount ?? null,
        changes.cost?.currency ?? null,
        result.kind,
        result.bytes,
        result.type,
        result.size,
      ],
    })
    return jobOf(first(rows))
  }
}

// What becomes of a running job `j` whose lease has elapsed.
const AFTER_LOSS = `case when j.cancel_requested then 'cancelled' when j.attempts_left > 0 then 'queued' else 'dead' end`

/** What the end of an attempt adds to a job. */
interface Changes {
  readonly attempt?: string
  readonly error?: JobFailure
  readonly cost?: { readonly amount: string; readonly currency: string } | undefined
  readonly result?: PayloadColumns
}

function attemptJson(row: LockedRow, outcome: string, error?: JobFailure): string {
  return JSON.stringify({
    number: row.attempts,
    worker: row.worker,
    start: row.started_at?.getTime(),
    end: row.now.getTime(),
    outcome,
    error,
  })
}

function first<R>(rows: readonly R[]): R {
  const row = rows[0]
  if (row === undefined) throw new DomainError("INTERNAL", "internal error")
  return row
}
