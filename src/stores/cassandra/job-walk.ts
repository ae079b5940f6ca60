/** Lists of the job history, over the tables of one class and of several. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster, Statement } from "./database.ts"
import type { JobTables } from "./job-tables.ts"

/** A job on a list. */
export interface ListedJob {
  readonly job_id: string
  readonly revision: bigint
  readonly head: string
  /** Where it is whole. */
  readonly tables: JobTables
}

/** A part of a list, which goes down. */
export interface IdRange {
  readonly below: string | undefined
  readonly from: string
}

/** Ids in parts. */
export type Walk = AsyncGenerator<readonly ListedJob[]>

const PAGE_ROWS = 100
/** So much of an id, whose first half is the time of creation, has all ids of four and a half hours. */
const SPAN_CHARS = 6

/** The part of the list that an id is in; in the order of ids, too. */
export function spanOf(jobId: string): string {
  return jobId.slice(0, SPAN_CHARS)
}

/** The last end of each job in all of the tables, going down. */
export function walkAll(cql: Cluster, scope: CallScope, all: readonly JobTables[], range: IdRange): Walk {
  const walks = all.map((tables) => walk(cql, scope, tables, range))
  return walks.length === 1 && walks[0] !== undefined ? walks[0] : together(walks)
}

async function* walk(cql: Cluster, scope: CallScope, tables: JobTables, range: IdRange): Walk {
  const spans = cql.pages<{ span: string }>(scope, spansIn(scope, tables, range))
  let last: string | undefined
  for await (const listed of spans) {
    for (const { span } of listed) {
      const rows = rowsIn(scope, tables, span, range)
      for await (const found of cql.pages<Omit<ListedJob, "tables">>(scope, rows, { pageRows: PAGE_ROWS })) {
        const fresh = found.filter(({ job_id }, n) => job_id !== (n === 0 ? last : found[n - 1]?.job_id))
        last = found.at(-1)?.job_id ?? last
        if (fresh.length > 0)
          yield fresh.map(({ job_id, revision, head }) => ({ job_id, revision, head, tables }))
      }
    }
  }
}

/** Several walks as one: of a job that is on more than one of them, its last end. */
async function* together(walks: readonly Walk[]): Walk {
  const open = new Map<Walk, readonly ListedJob[]>(walks.map((own) => [own, []]))
  try {
    for (;;) {
      await Promise.all(
        [...open].map(async ([own, rows]) => {
          if (rows.length > 0) return
          const { done, value } = await own.next()
          if (done === true) open.delete(own)
          else open.set(own, value)
        }),
      )
      const ends = [...open.values()].flatMap((rows) => rows.at(-1)?.job_id ?? [])
      if (ends.length === 0) return
      // What no walk has shown yet is below the end of what it has.
      const end = ends.toSorted().at(-1) ?? ""
      const shown = [...open.values()].flatMap((rows) => rows.filter(({ job_id }) => job_id >= end))
      for (const [own, rows] of open) {
        open.set(
          own,
          rows.filter(({ job_id }) => job_id < end),
        )
      }
      shown.sort(later)
      yield shown.filter(({ job_id }, n) => job_id !== shown[n - 1]?.job_id)
    }
  } finally {
    await Promise.all(walks.map((own) => own.return(undefined)))
  }
}

function later(a: ListedJob, b: ListedJob): number {
  if (a.job_id !== b.job_id) return a.job_id < b.job_id ? 1 : -1
  return a.revision < b.revision ? 1 : -1
}

function spansIn({ tenant }: CallScope, { spans }: JobTables, { below, from }: IdRange): Statement {
  const some = `select span from ${spans} where tenant = ? and span >= ?`
  const values = [tenant, spanOf(from)]
  return below === undefined
    ? { cql: some, values }
    : { cql: `${some} and span <= ?`, values: [...values, spanOf(below)] }
}

function rowsIn(
  { tenant }: CallScope,
  { byId }: JobTables,
  span: string,
  { below, from }: IdRange,
): Statement {
  const some = `select job_id, revision, head from ${byId} where tenant = ? and span = ? and job_id >= ?`
  const values = [tenant, span, from]
  return below === undefined
    ? { cql: some, values }
    : { cql: `${some} and job_id < ?`, values: [...values, below] }
}
