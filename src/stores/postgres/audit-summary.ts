/** Counting audit records. */
import type {
  AuditCounts,
  AuditDimension,
  AuditPeriod,
  AuditQuery,
  AuditSummary,
} from "../../domain/event/audit-ports.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { auditWhere } from "./audit-rows.ts"
import type { Database, Statement } from "./database.ts"

const COUNTS = `count(*) as count, count(*) filter (where a.outcome = 'denied') as denied,
  count(*) filter (where a.outcome = 'failure') as failed`

const DIMENSIONS = ["a.actor", "a.action", "a.resource_type || '/' || a.resource_id"] as const

interface CountRow {
  readonly count: bigint
  readonly denied: bigint
  readonly failed: bigint
}

/** All counts in one round trip and one transaction. */
export async function summarizeAudit(
  database: Database,
  scope: CallScope,
  query: AuditQuery,
  period: AuditPeriod,
  top: number,
): Promise<AuditSummary> {
  const dimensions = DIMENSIONS.map((value) => dimension(scope, query, value, top))
  const [total, actors, actions, resources, periods] = await database.pipeline(scope, [
    totals(scope, query),
    ...dimensions,
    buckets(scope, query, period),
  ])
  // Each statement above says which columns it answers.
  const totalRows = (total?.rows ?? []) as unknown as readonly CountRow[]
  const bucketRows = (periods?.rows ?? []) as unknown as readonly (CountRow & { readonly start: Date })[]
  return {
    total: countsOf(totalRows[0]),
    actors: dimensionOf(actors?.rows),
    actions: dimensionOf(actions?.rows),
    resources: dimensionOf(resources?.rows),
    periods: bucketRows.map((row) => ({ ...countsOf(row), startMs: row.start.getTime() })),
  }
}

function totals(scope: CallScope, query: AuditQuery): Statement {
  const values: unknown[] = [scope.tenant]
  return { text: `select ${COUNTS} from audit_records a where ${auditWhere(query, values)}`, values }
}

function dimension(scope: CallScope, query: AuditQuery, value: string, top: number): Statement {
  const values: unknown[] = [scope.tenant, top]
  const text = `select (${value}) collate "C" as value, ${COUNTS}, count(*) over () as distinct
    from audit_records a where ${auditWhere(query, values)}
    group by 1 order by count desc, value limit $2`
  return { text, values }
}

function buckets(scope: CallScope, query: AuditQuery, period: AuditPeriod): Statement {
  const values: unknown[] = [scope.tenant, period]
  const text = `select date_trunc($2::text, a.time at time zone 'UTC') at time zone 'UTC' as start, ${COUNTS}
    from audit_records a where ${auditWhere(query, values)} group by 1 order by 1`
  return { text, values }
}

function countsOf(row: CountRow | undefined): AuditCounts {
  return { count: row?.count ?? 0n, denied: row?.denied ?? 0n, failed: row?.failed ?? 0n }
}

function dimensionOf(rows: readonly Record<string, unknown>[] = []): AuditDimension {
  const typed = rows as unknown as readonly (CountRow & { value: string; distinct: bigint })[]
  return {
    top: typed.map((row) => ({ ...countsOf(row), value: row.value })),
    distinct: typed[0]?.distinct ?? 0n,
  }
}
