/** How ended jobs leave their table, and come back. */
import { wrongJobStatus } from "../../domain/event/job-errors.ts"
import type { JobExit, JobExits, LeavingJob } from "../../domain/event/job-exits.ts"
import { type Job, MAX_JOBS_BYTES } from "../../domain/event/job-model.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { insertItems } from "./archive-write.ts"
import type { Database, Statement } from "./database.ts"
import { jobItem } from "./job-item.ts"
import { requeueJob } from "./job-requeue.ts"
import { JOB_BYTES, JOB_COLUMNS, JOB_COLUMNS_BASIC, type JobRow, jobOf } from "./job-rows.ts"

/** How {@link createPostgresJobExits} works. */
export interface PostgresJobExitsOptions {
  /** For tests; see the store of jobs. */
  readonly clock?: Clock | undefined
  /** The longest that the store keeps an ended job in all, whoever's it is. */
  readonly retentionMs: number
}

/** The {@link JobExits} of the jobs in `database`. */
export function createPostgresJobExits(database: Database, options: PostgresJobExitsOptions): JobExits {
  return new PostgresJobExits(database, options)
}

const NOW = "date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp()))"

// Ends are found by the retention that was given with them, for which there is an index already: who has left by now expires within
// the longest retention without the stay. Where some tenants' jobs are kept for less, it passes those that stay yet.
const TAKE = `with old as (
    select j.tenant, j.id, j.expires_at, ${JOB_BYTES} as bytes from jobs j
    where j.expires_at > ${NOW} and j.expires_at <= ${NOW} + $3::bigint * interval '1 ms' and (j.tenant = $1 or $1 = '*')
      and j.ended_at <= ${NOW} - $7::bigint * interval '1 ms'
      and (j.moving_until is null or j.moving_until <= ${NOW})
    order by j.expires_at limit $4 for update skip locked),
  fitting as (select o.tenant, o.id from (
    select old.*, sum(old.bytes) over taken as total, row_number() over taken as place from old
      window taken as (order by old.expires_at, old.tenant, old.id)) o where o.place = 1 or o.total <= $6)
  update jobs j set moving_until = ${NOW} + $5::bigint * interval '1 ms'
  from fitting where j.tenant = fitting.tenant and j.id = fitting.id returning j.tenant, ${JOB_COLUMNS}`

class PostgresJobExits implements JobExits {
  readonly #database: Database
  readonly #clock: Clock | undefined
  readonly #retentionMs: number

  constructor(database: Database, { clock, retentionMs }: PostgresJobExitsOptions) {
    this.#database = database
    this.#clock = clock
    this.#retentionMs = retentionMs
  }

  async take(scope: CallScope, { stayMs, leaseMs, max }: JobExit): Promise<readonly LeavingJob[]> {
    const leftMs = this.#retentionMs - stayMs
    const { rows } = await this.#database.query<JobRow & { readonly tenant: TenantId }>(scope, {
      name: "job_take",
      text: TAKE,
      values: [scope.tenant, this.#now(), leftMs, max, leaseMs, MAX_JOBS_BYTES, stayMs],
    })
    return rows.map((row) => ({ tenant: row.tenant, job: jobOf(row) }))
  }

  async remove(scope: CallScope, jobs: readonly LeavingJob[]): Promise<number> {
    const { count } = await this.#database.query(scope, {
      name: "job_remove",
      text: `delete from jobs j using unnest($2::text[], $3::text[], $4::bigint[]) as n(tenant, id, revision)
        where j.tenant = n.tenant and j.id = n.id and j.revision = n.revision and j.ended_at is not null
          and (j.tenant = $1 or $1 = '*')`,
      values: [
        scope.tenant,
        jobs.map(({ tenant }) => tenant),
        jobs.map(({ job }) => job.id),
        jobs.map(({ job }) => job.revision),
      ],
    })
    return count
  }

  async find(scope: CallScope, jobIds: readonly string[]): Promise<readonly Job[]> {
    const { rows } = await this.#database.query<JobRow>(scope, {
      name: "job_find",
      text: `select ${JOB_COLUMNS_BASIC} from jobs j
        where j.tenant = $1 and j.id = any($3::text[]) and (j.expires_at is null or j.expires_at > ${NOW})`,
      values: [scope.tenant, this.#now(), jobIds],
    })
    return rows.map(jobOf)
  }

  restore: JobExits["restore"] = (scope, job) =>
    requeueJob(this.#database, scope, job.id, async (tx) => {
      const { count } = await tx.query(asItWas(scope, job))
      if (count === 0) throw wrongJobStatus({ id: job.id, status: "queued" }, "retried")
      return this.#now()
    })

  #now(): Date | null {
    return this.#clock === undefined ? null : new Date(this.#clock.now())
  }
}

function asItWas(scope: CallScope, job: Job): Statement {
  return insertItems("job", scope, [jobItem(job)], "on conflict (tenant, id) do nothing")
}
