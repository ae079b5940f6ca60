/**
 * Aggregating usage. From the events themselves rather than from sums kept beside them: late events, distinct counts and any
 * mix of dimensions come out right without a second truth that could differ. Of months whose events have been dropped there
 * are only sums, which belong to nobody and have no dimensions.
 */
import type { UsageAggregation, UsageProperty, UsageQuery, UsageRow } from "../../domain/billing/model.ts"
import { normalQuantity } from "../../domain/billing/quantity.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { pageOf } from "./control-resource.ts"
import type { Database, Statement } from "./database.ts"

const AGGREGATES: Readonly<Record<UsageAggregation, string>> = {
  SUM: "sum(e.quantity)",
  COUNT: "sum(e.events)",
  MAX: "max(e.largest)",
  UNIQUE_COUNT: "count(distinct nullif(e.counted, ''))",
}

const PERIODS = { HOUR: "hour", DAY: "day", MONTH: "month" } as const
const COLUMNS = { agent: "agent_id", user: "user_id", session: "session_id" } as const

/** One page of aggregates. */
export async function aggregateUsage(
  database: Database,
  scope: CallScope,
  query: UsageQuery,
  page: PageRequest,
): Promise<Page<UsageRow>> {
  const { rows } = await database.query<Record<string, unknown>>(scope, statement(scope, query, page))
  const found = rows.map((row) => rowOf(row, query))
  return pageOf(found, page.size, (last) => [String(last.startTime ?? 0), ...last.groups])
}

function statement(scope: CallScope, query: UsageQuery, page: PageRequest): Statement {
  const values: unknown[] = [scope.tenant, query.meter]
  const param = (value: unknown): string => `$${values.push(value)}`
  const property = (of: UsageProperty): string =>
    of.kind === "dimension" ? `coalesce(dimensions ->> ${param(of.key)}::text, '')` : COLUMNS[of.kind]

  const groups = query.groupBy.map((of, at) => `${property(of)} collate "C" as g${at}`)
  const counted = query.uniqueBy === undefined ? "''" : property(query.uniqueBy)
  // A constant rather than nothing: without events there must be no row.
  const bucketed = (time: string): string =>
    query.period === undefined
      ? "'epoch'::timestamptz"
      : `date_trunc('${PERIODS[query.period]}', ${time}, 'UTC')`
  const selected = [
    `${bucketed("event_time")} as bucket`,
    ...groups,
    `${counted} as counted`,
    "quantity",
  ].join(", ")
  const keys = ["bucket", ...groups.map((_, at) => `g${at}`)].map((key) => `e.${key}`).join(", ")
  const where = conditions(query, param)
  const dropped = ofDroppedMonths(query, bucketed, param)
  const after = page.cursor === undefined ? "" : `having (${keys}) > (${cursor(page.cursor, param)})`
  return {
    text: `select ${keys}, ${AGGREGATES[query.aggregation]}::text as value, sum(e.events)::bigint as events
      from (select ${selected}, quantity as largest, 1 as events from keelplane.usage_events where ${where}
        ${dropped}) e
      group by ${keys} ${after} order by ${keys} limit ${param(page.size + 1)}::int`,
    values,
  }
}

/** Sums of months that are no longer kept in detail, as of the month's first instant. Whoever asks for somebody's usage gets none. */
function ofDroppedMonths(
  query: UsageQuery,
  bucketed: (time: string) => string,
  param: (value: unknown) => string,
): string {
  const { agentId, userId, sessionId } = query.subject
  if (agentId !== "" || userId !== "" || sessionId !== "" || Object.keys(query.dimensions).length > 0)
    return ""
  const time = "(month::timestamp at time zone 'UTC')"
  const selected = [`${bucketed(time)}`, ...query.groupBy.map(() => `''`), "''", "quantity, largest, events"]
  const where = ["tenant = $1", "meter = $2", ...bounds(query, time, param)].join(" and ")
  return `union all select ${selected.join(", ")} from keelplane.usage_months where ${where}`
}

function bounds(
  { startTime, endTime }: UsageQuery,
  time: string,
  param: (value: unknown) => string,
): string[] {
  return [
    ...(startTime === undefined ? [] : [`${time} >= ${param(new Date(startTime))}::timestamptz`]),
    ...(endTime === undefined ? [] : [`${time} < ${param(new Date(endTime))}::timestamptz`]),
  ]
}

function conditions(query: UsageQuery, param: (value: unknown) => string): string {
  const all = ["tenant = $1", "meter = $2", ...bounds(query, "event_time", param)]
  const { agentId, userId, sessionId } = query.subject
  if (agentId !== "") all.push(`agent_id = ${param(agentId)}::text`)
  if (userId !== "") all.push(`user_id = ${param(userId)}::text`)
  if (sessionId !== "") all.push(`session_id = ${param(sessionId)}::text`)
  if (Object.keys(query.dimensions).length > 0) {
    all.push(`dimensions @> ${param(JSON.stringify(query.dimensions))}::jsonb`)
  }
  return all.join(" and ")
}

function cursor([bucket = "0", ...groups]: readonly string[], param: (value: unknown) => string): string {
  const start = `${param(new Date(Number(bucket)))}::timestamptz`
  return [start, ...groups.map((group) => `${param(group)}::text collate "C"`)].join(", ")
}

function rowOf(row: Record<string, unknown>, query: UsageQuery): UsageRow {
  const bucket = row.bucket
  return {
    startTime: query.period !== undefined && bucket instanceof Date ? bucket.getTime() : undefined,
    groups: query.groupBy.map((_, at) => String(row[`g${at}`])),
    value: normalQuantity(String(row.value)),
    events: BigInt(String(row.events)),
  }
}
