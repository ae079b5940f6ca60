/** The history of jobs in Cassandra. Plain writes: a job's end never changes, and another end is another row. */
import { fitsJobQuery } from "../../domain/event/job-filter.ts"
import {
  type EndedJob,
  endedJob,
  JOB_HISTORY_BATCH_MAX,
  JOB_HISTORY_MS,
  type JobHistory,
  jobBytes,
} from "../../domain/event/job-history.ts"
import { type Job, MAX_JOBS_BYTES } from "../../domain/event/job-model.ts"
import type { JobQuery } from "../../domain/event/job-ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { Cluster, Statement } from "./database.ts"
import { bulkText, headText, jobOf } from "./job-rows.ts"

/** What {@link createCassandraJobHistory} is made of. */
export interface CassandraJobHistoryOptions {
  readonly cql: Cluster
  readonly clock?: Clock | undefined
}

/** A {@link JobHistory} over `cql`. */
export function createCassandraJobHistory({
  cql,
  clock = systemClock,
}: CassandraJobHistoryOptions): JobHistory {
  return new CassandraJobHistory(cql, clock)
}

interface ListedRow {
  readonly job_id: string
  readonly revision: bigint
  readonly head: string
}

const WRITE_AT_ONCE = 16
const READ_AT_ONCE = 16
const PAGE_ROWS = 100
/** Most jobs that one list looks at; where few of them fit, the page is short and goes on from there. */
const MAX_LOOKED_AT = 20_000
/** So much of an id, whose first half is the time of creation, has all ids of four and a half hours. */
const SPAN_CHARS = 6

class CassandraJobHistory implements JobHistory {
  readonly #cql: Cluster
  readonly #clock: Clock

  constructor(cql: Cluster, clock: Clock) {
    this.#cql = cql
    this.#clock = clock
  }

  async append(scope: CallScope, jobs: readonly Job[]): Promise<void> {
    requireLive(scope)
    if (jobs.length > JOB_HISTORY_BATCH_MAX) throw limitExceeded("jobs", jobs.length, JOB_HISTORY_BATCH_MAX)
    const now = this.#clock.now()
    const ended = jobs.map(endedJob).filter(({ expireMs }) => expireMs > now)
    // Each time anew: the list must outlive what is added late, and a tenant of the same name may have been erased.
    const spans = new Set(ended.map(({ id }) => spanOf(id)))
    await Promise.all([...spans].map((span) => this.#cql.write(scope, register(scope, span))))
    for (let at = 0; at < ended.length; at += WRITE_AT_ONCE) {
      await Promise.all(ended.slice(at, at + WRITE_AT_ONCE).map((job) => this.#append(scope, job, now)))
    }
  }

  async #append(scope: CallScope, job: EndedJob, now: number): Promise<void> {
    const { tenant } = scope
    const { id, revision, endMs, expireMs } = job
    const head = headText(job)
    const ttl = Math.ceil(Math.min(expireMs - now, JOB_HISTORY_MS) / 1_000)
    await this.#cql.write(scope, {
      cql: `insert into job_history (tenant, job_id, revision, ended_at, head, bulk) values (?, ?, ?, ?, ?, ?) using ttl ?`,
      values: [tenant, id, revision, new Date(endMs), head, bulkText(job), ttl],
    })
    await this.#cql.write(scope, {
      cql: "insert into job_history_by_id (tenant, span, job_id, revision, head) values (?, ?, ?, ?, ?) using ttl ?",
      values: [tenant, spanOf(id), id, revision, head, ttl],
    })
  }

  async get(scope: CallScope, jobId: string): Promise<Job | undefined> {
    const [row] = await this.#cql.read<{ head: string; bulk: string }>(scope, {
      cql: "select head, bulk from job_history where tenant = ? and job_id = ? limit 1",
      values: [scope.tenant, jobId],
    })
    const job = row && jobOf(row.head, row.bulk)
    return job !== undefined && job.expireMs > this.#clock.now() ? job : undefined
  }

  async list(scope: CallScope, query: JobQuery, page: PageRequest, from = ""): Promise<Page<Job>> {
    const items: Job[] = []
    let bytes = 0
    let seen = 0
    let last = ""
    const cut = (): Page<Job> => ({ items, next: [last] })
    for await (const found of this.#walk(scope, { below: page.cursor?.[0], from })) {
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
  async #fitting(scope: CallScope, query: JobQuery, row: ListedRow): Promise<Job | undefined> {
    const job = jobOf(row.head)
    if (job.expireMs <= this.#clock.now() || !fitsJobQuery(job, query)) return undefined
    if (!query.full) return job
    const [whole] = await this.#cql.read<{ bulk: string }>(scope, {
      cql: "select bulk from job_history where tenant = ? and job_id = ? and revision = ?",
      values: [scope.tenant, row.job_id, row.revision],
    })
    return whole && jobOf(row.head, whole.bulk)
  }

  /** The last end of each job. */
  async *#walk(scope: CallScope, range: IdRange): AsyncGenerator<readonly ListedRow[]> {
    const spans = this.#cql.pages<{ span: string }>(scope, spansIn(scope, range))
    let last: string | undefined
    for await (const listed of spans) {
      for (const { span } of listed) {
        const pages = this.#cql.pages<ListedRow>(scope, rowsIn(scope, span, range), {
          pageRows: PAGE_ROWS,
        })
        for await (const rows of pages) {
          const fresh = rows.filter(({ job_id }, n) => job_id !== (n === 0 ? last : rows[n - 1]?.job_id))
          last = rows.at(-1)?.job_id ?? last
          yield fresh
        }
      }
    }
  }
}

/** A part of a list, which goes down. */
interface IdRange {
  readonly below: string | undefined
  readonly from: string
}

/** In the order of ids, too. */
function spanOf(jobId: string): string {
  return jobId.slice(0, SPAN_CHARS)
}

function register({ tenant }: CallScope, span: string): Statement {
  return { cql: "insert into job_history_spans (tenant, span) values (?, ?)", values: [tenant, span] }
}

function spansIn({ tenant }: CallScope, { below, from }: IdRange): Statement {
  const some = "select span from job_history_spans where tenant = ? and span >= ?"
  const values = [tenant, spanOf(from)]
  return below === undefined
    ? { cql: some, values }
    : { cql: `${some} and span <= ?`, values: [...values, spanOf(below)] }
}

function rowsIn({ tenant }: CallScope, span: string, { below, from }: IdRange): Statement {
  const some =
    "select job_id, revision, head from job_history_by_id where tenant = ? and span = ? and job_id >= ?"
  const values = [tenant, span, from]
  return below === undefined
    ? { cql: some, values }
    : { cql: `${some} and job_id < ?`, values: [...values, below] }
}
