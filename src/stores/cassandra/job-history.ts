/**
 * The history of jobs in Cassandra. Plain writes: a job's end never changes, and another end is another row. Every row has the time to
 * live of its table, and a job whose own time ends before is passed over.
 */
import { fitsJobQuery } from "../../domain/event/job-filter.ts"
import {
  type EndedJob,
  endedJob,
  JOB_HISTORY_BATCH_MAX,
  JOB_HISTORY_MS,
  type JobHistory,
  type JobLife,
  jobBytes,
} from "../../domain/event/job-history.ts"
import { type Job, MAX_JOBS_BYTES } from "../../domain/event/job-model.ts"
import type { JobQuery } from "../../domain/event/job-ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { ByTenant } from "../../domain/kernel/tenant-classes.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { Cluster } from "./database.ts"
import { bulkText, headText, jobOf } from "./job-rows.ts"
import { classTablesOf, type JobTables, jobTables, tablesOf } from "./job-tables.ts"
import { type ListedJob, spanOf, walkAll } from "./job-walk.ts"

/** What {@link createCassandraJobHistory} is made of. */
export interface CassandraJobHistoryOptions {
  readonly cql: Cluster
  readonly clock?: Clock | undefined
  /** Which tables take whose jobs, as the schema was made for them. Default: a year for everybody. */
  readonly lives?: ByTenant<JobLife> | undefined
}

/** A {@link JobHistory} over `cql`. */
export function createCassandraJobHistory({
  cql,
  clock = systemClock,
  lives = new ByTenant({ ms: JOB_HISTORY_MS }),
}: CassandraJobHistoryOptions): JobHistory {
  return new CassandraJobHistory(cql, clock, lives)
}

interface StoredJob {
  readonly revision: bigint
  readonly head: string
  readonly bulk: string
}

const WRITE_AT_ONCE = 16
const READ_AT_ONCE = 16
/** Most jobs that one list looks at; where few of them fit, the page is short and goes on from there. */
const MAX_LOOKED_AT = 20_000

class CassandraJobHistory implements JobHistory {
  readonly #cql: Cluster
  readonly #clock: Clock
  readonly #lives: ByTenant<JobLife>

  constructor(cql: Cluster, clock: Clock, lives: ByTenant<JobLife>) {
    this.#cql = cql
    this.#clock = clock
    this.#lives = lives
  }

  async append(scope: CallScope, jobs: readonly Job[]): Promise<void> {
    requireLive(scope)
    if (jobs.length > JOB_HISTORY_BATCH_MAX) throw limitExceeded("jobs", jobs.length, JOB_HISTORY_BATCH_MAX)
    const now = this.#clock.now()
    const { className, ms } = this.#lives.of(scope.tenant)
    const ended = jobs.map((job) => endedJob(job, ms, now)).filter(({ expireMs }) => expireMs > now)
    if (ended.length === 0) return
    const tables = jobTables(className)
    // Each time anew: what finds jobs must outlive what is added late, and a tenant of the same name may have been erased.
    const spans = new Set(ended.map(({ id }) => spanOf(id)))
    if (className !== undefined) await this.#registerClass(scope, className)
    await Promise.all([...spans].map((span) => this.#registerSpan(scope, tables, span)))
    const all = await tablesOf(this.#cql, scope)
    for (let at = 0; at < ended.length; at += WRITE_AT_ONCE) {
      const some = ended.slice(at, at + WRITE_AT_ONCE)
      await Promise.all(some.map((job) => this.#appendLast(scope, tables, all, job)))
    }
  }

  #registerClass(scope: CallScope, className: string): Promise<void> {
    return this.#cql.write(scope, {
      cql: "insert into job_history_classes (tenant, class_name) values (?, ?)",
      values: [scope.tenant, className],
    })
  }

  #registerSpan(scope: CallScope, { spans }: JobTables, span: string): Promise<void> {
    const cql = `insert into ${spans} (tenant, span) values (?, ?)`
    return this.#cql.write(scope, { cql, values: [scope.tenant, span] })
  }

  /** An earlier end goes, for it may be in a table that keeps it for longer than the last one is kept, and would come to light. */
  async #appendLast(
    scope: CallScope,
    tables: JobTables,
    all: readonly JobTables[],
    job: EndedJob,
  ): Promise<void> {
    const known = await Promise.all(
      all.map(async (own) => ({ own, revision: await this.#lastRevision(scope, own, job.id) })),
    )
    if (known.some(({ revision }) => revision !== undefined && revision > job.revision)) return
    await this.#append(scope, tables, job)
    for (const { own, revision } of known) {
      if (revision !== undefined && revision < job.revision) await this.#removeEarlier(scope, own, job)
    }
  }

  async #lastRevision(scope: CallScope, { ends }: JobTables, jobId: string): Promise<bigint | undefined> {
    const [row] = await this.#cql.read<Pick<StoredJob, "revision">>(scope, {
      cql: `select revision from ${ends} where tenant = ? and job_id = ? limit 1`,
      values: [scope.tenant, jobId],
    })
    return row?.revision
  }

  async #removeEarlier(scope: CallScope, { ends, byId }: JobTables, { id, revision }: EndedJob) {
    await this.#cql.write(scope, {
      cql: `delete from ${byId} where tenant = ? and span = ? and job_id = ? and revision < ?`,
      values: [scope.tenant, spanOf(id), id, revision],
    })
    await this.#cql.write(scope, {
      cql: `delete from ${ends} where tenant = ? and job_id = ? and revision < ?`,
      values: [scope.tenant, id, revision],
    })
  }

  async #append(scope: CallScope, { ends, byId }: JobTables, job: EndedJob): Promise<void> {
    const { tenant } = scope
    const { id, revision, endMs } = job
    const head = headText(job)
    await this.#cql.write(scope, {
      cql: `insert into ${ends} (tenant, job_id, revision, ended_at, head, bulk) values (?, ?, ?, ?, ?, ?)`,
      values: [tenant, id, revision, new Date(endMs), head, bulkText(job)],
    })
    await this.#cql.write(scope, {
      cql: `insert into ${byId} (tenant, span, job_id, revision, head) values (?, ?, ?, ?, ?)`,
      values: [tenant, spanOf(id), id, revision, head],
    })
  }

  async get(scope: CallScope, jobId: string): Promise<Job | undefined> {
    const [first, others] = await Promise.all([
      this.#lastEnd(scope, jobTables(undefined), jobId),
      this.#inClasses(scope, jobId),
    ])
    const rows = [first, ...others].filter((row) => row !== undefined)
    if (rows.length === 0) return undefined
    const last = rows.reduce((a, b) => (a.revision > b.revision ? a : b))
    const job = jobOf(last.head, last.bulk)
    return job.expireMs > this.#clock.now() ? job : undefined
  }

  async #inClasses(scope: CallScope, jobId: string): Promise<readonly (StoredJob | undefined)[]> {
    const tables = await classTablesOf(this.#cql, scope)
    return Promise.all(tables.map((own) => this.#lastEnd(scope, own, jobId)))
  }

  async #lastEnd(scope: CallScope, { ends }: JobTables, jobId: string): Promise<StoredJob | undefined> {
    const [row] = await this.#cql.read<StoredJob>(scope, {
      cql: `select revision, head, bulk from ${ends} where tenant = ? and job_id = ? limit 1`,
      values: [scope.tenant, jobId],
    })
    return row
  }

  async list(scope: CallScope, query: JobQuery, page: PageRequest, from = ""): Promise<Page<Job>> {
    const items: Job[] = []
    let bytes = 0
    let seen = 0
    let last = ""
    const cut = (): Page<Job> => ({ items, next: [last] })
    const tables = await tablesOf(this.#cql, scope)
    for await (const found of walkAll(this.#cql, scope, tables, { below: page.cursor?.[0], from })) {
      for (let at = 0; at < found.length; at += READ_AT_ONCE) {
        const some = found.slice(at, at + READ_AT_ONCE)
        const jobs = await Promise.all(some.map((row) => this.#fitting(scope, query, row)))
        for (const [n, row] of some.entries()) {
          const job = jobs[n]
          if (job !== undefined) {
            bytes += jobBytes(job)
            if (items.length === page.size || (items.length > 0 && bytes > MAX_JOBS_BYTES)) return cut()
            items.push(job)
          }
          last = row.job_id
          if (++seen >= MAX_LOOKED_AT) return cut()
        }
      }
    }
    return { items }
  }

  /** The row's job, where it fits the query; read whole only then. */
  async #fitting(scope: CallScope, query: JobQuery, row: ListedJob): Promise<Job | undefined> {
    const job = jobOf(row.head)
    if (job.expireMs <= this.#clock.now() || !fitsJobQuery(job, query)) return undefined
    if (!query.full) return job
    const [whole] = await this.#cql.read<{ bulk: string }>(scope, {
      cql: `select bulk from ${row.tables.ends} where tenant = ? and job_id = ? and revision = ?`,
      values: [scope.tenant, row.job_id, row.revision],
    })
    return whole && jobOf(row.head, whole.bulk)
  }
}
