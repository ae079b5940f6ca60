/** The history of jobs in Cassandra. Plain writes: a job's end never changes, and another end is another row. */
import { utcDay } from "../../domain/event/audit-chain.ts"
import {
  type EndedJob,
  endedJob,
  JOB_HISTORY_BATCH_MAX,
  type JobHistory,
  type JobHistoryQuery,
  jobBytes,
} from "../../domain/event/job-history.ts"
import { type Job, MAX_JOBS_BYTES } from "../../domain/event/job-model.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import { matchesFilter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { Cluster } from "./database.ts"
import { bulkText, fieldOf, headText, jobOf } from "./job-rows.ts"

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

interface EndRow {
  readonly ended_at: Date
  readonly job_id: string
  readonly revision: bigint
  readonly queue: string
  readonly status: Job["status"]
  readonly head: string
}

/** A place in the order of lists. */
type Place = Pick<EndRow, "job_id" | "revision"> & { readonly endMs: number }

const WRITE_AT_ONCE = 16
const READ_AT_ONCE = 16
const PAGE_ROWS = 100
/** Most jobs that one list looks at; where few of them fit, the page is short and goes on from there. */
const MAX_LOOKED_AT = 20_000
/** After every end. */
const END_MS = Date.UTC(9999, 11, 31)

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
    const ended = jobs.map(endedJob)
    // Each time anew: the list must outlive what is added late, and a tenant of the same name may have been erased.
    const days = new Set(ended.map(({ endMs }) => utcDay(endMs)))
    await Promise.all([...days].map((day) => this.#list(scope, day)))
    for (let at = 0; at < ended.length; at += WRITE_AT_ONCE) {
      await Promise.all(ended.slice(at, at + WRITE_AT_ONCE).map((job) => this.#append(scope, job)))
    }
  }

  async #append(scope: CallScope, job: EndedJob): Promise<void> {
    const { tenant } = scope
    const { id, revision, endMs, queue, status } = job
    const head = headText(job)
    await this.#cql.write(scope, {
      cql: "insert into job_history (tenant, job_id, revision, ended_at, head, bulk) values (?, ?, ?, ?, ?, ?)",
      values: [tenant, id, revision, new Date(endMs), head, bulkText(job)],
    })
    await this.#cql.write(scope, {
      cql: `insert into job_history_by_end (tenant, day, ended_at, job_id, revision, queue, status, head)
        values (?, ?, ?, ?, ?, ?, ?, ?)`,
      values: [tenant, utcDay(endMs), new Date(endMs), id, revision, queue, status, head],
    })
    // Whoever else writes an end of this job does the same after it, so that one of both sees the other.
    const ends = await this.#cql.read<{ revision: bigint; ended_at: Date }>(scope, {
      cql: "select revision, ended_at from job_history where tenant = ? and job_id = ?",
      values: [tenant, id],
    })
    for (const { revision: earlier, ended_at } of ends.slice(1)) {
      await this.#cql.write(scope, {
        cql: `delete from job_history_by_end where tenant = ? and day = ? and ended_at = ? and job_id = ? and revision = ?`,
        values: [tenant, utcDay(ended_at.getTime()), ended_at, id, earlier],
      })
    }
  }

  async #list(scope: CallScope, day: string): Promise<void> {
    await this.#cql.write(scope, {
      cql: "insert into job_history_days (tenant, day) values (?, ?)",
      values: [scope.tenant, day],
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

  async list(scope: CallScope, query: JobHistoryQuery, page: PageRequest): Promise<Page<Job>> {
    const items: Job[] = []
    let bytes = 0
    let seen = 0
    let last: Place | undefined
    const cut = (): Page<Job> => ({
      items,
      next: last && [String(last.endMs), last.job_id, String(last.revision)],
    })
    for await (const found of this.#walk(scope, query, placeOf(page.cursor))) {
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
          last = { ...row, endMs: row.ended_at.getTime() }
          if (++seen >= MAX_LOOKED_AT) return cut()
        }
      }
    }
    return { items }
  }

  /** The row's job, where it fits the query; read whole only then. */
  async #fitting(scope: CallScope, query: JobHistoryQuery, row: EndRow): Promise<Job | undefined> {
    const { queue, statuses, filter, full } = query
    if (queue !== undefined && row.queue !== queue) return undefined
    if (statuses.length > 0 && !statuses.includes(row.status)) return undefined
    const job = jobOf(row.head)
    if (job.expireMs <= this.#clock.now()) return undefined
    if (filter !== undefined && !matchesFilter(filter, (field) => fieldOf(job, field))) return undefined
    if (!full) return job
    const [whole] = await this.#cql.read<{ bulk: string }>(scope, {
      cql: "select bulk from job_history where tenant = ? and job_id = ? and revision = ?",
      values: [scope.tenant, row.job_id, row.revision],
    })
    return whole && jobOf(row.head, whole.bulk)
  }

  async *#walk(
    scope: CallScope,
    { startMs = 0, endMs = END_MS }: JobHistoryQuery,
    cursor: Place | undefined,
  ): AsyncGenerator<readonly EndRow[]> {
    const upper = Math.min(endMs, END_MS)
    const before =
      cursor === undefined || cursor.endMs >= upper ? { endMs: upper, job_id: "", revision: 0n } : cursor
    const start = Math.max(startMs, 0)
    const days = this.#cql.pages<{ day: string }>(scope, {
      cql: "select day from job_history_days where tenant = ? and day >= ? and day <= ?",
      values: [scope.tenant, utcDay(start), utcDay(before.endMs)],
    })
    for await (const listed of days) {
      for (const { day } of listed) {
        yield* this.#cql.pages<EndRow>(
          scope,
          {
            cql: `select ended_at, job_id, revision, queue, status, head from job_history_by_end
              where tenant = ? and day = ? and (ended_at, job_id, revision) < (?, ?, ?) and (ended_at) >= (?)`,
            values: [
              scope.tenant,
              day,
              new Date(before.endMs),
              before.job_id,
              before.revision,
              new Date(start),
            ],
          },
          { pageRows: PAGE_ROWS },
        )
      }
    }
  }
}

function placeOf(cursor: readonly string[] | undefined): Place | undefined {
  const [endMs, job_id, revision] = cursor ?? []
  if (endMs === undefined || job_id === undefined || revision === undefined) return undefined
  return { endMs: Number(endMs), job_id, revision: BigInt(revision) }
}
