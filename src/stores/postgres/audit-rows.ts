/** Rows of the audit tables as records, and queries as conditions. */
import type { AuditDayHead, AuditOutcome, AuditRecord } from "../../domain/event/audit-model.ts"
import type { AuditQuery } from "../../domain/event/audit-ports.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"

/** A row of {@link AUDIT_COLUMNS}. */
export interface AuditRow {
  readonly day: string
  readonly seq: bigint
  readonly id: string
  readonly time: Date
  readonly recorded_at: Date
  readonly actor: string
  readonly action: string
  readonly resource_type: string
  readonly resource_id: string
  readonly outcome: AuditOutcome
  readonly ip_address: string
  readonly user_agent: string
  readonly correlation_id: string
  readonly details: string
  readonly prev_hash: Buffer
  readonly hash: Buffer
}

/** Everything of a record, from the table aliased `a`. */
export const AUDIT_COLUMNS = `a.day::text as day, a.seq, a.id, a.time, a.recorded_at, a.actor, a.action, a.resource_type,
  a.resource_id, a.outcome, a.ip_address, a.user_agent, a.correlation_id, a.details, a.prev_hash, a.hash`

/** Bytes on the wire of a record from the table aliased `a`, at most: JSON grows less than sixfold. */
export const AUDIT_BYTES = `(256 + octet_length(a.actor) + octet_length(a.action) + octet_length(a.resource_type)
  + octet_length(a.resource_id) + octet_length(a.ip_address) + octet_length(a.user_agent)
  + octet_length(a.correlation_id) + octet_length(a.details) * 6)`

const FILTER_COLUMNS: FilterColumns = {
  record_id: { sql: "a.id" },
  actor: { sql: "a.actor" },
  action: { sql: "a.action" },
  resource_type: { sql: "a.resource_type" },
  resource_id: { sql: "a.resource_id" },
  outcome: { sql: "a.outcome" },
  time: { sql: "a.time" },
  record_time: { sql: "a.recorded_at" },
  ip_address: { sql: "a.ip_address" },
  user_agent: { sql: "a.user_agent" },
  correlation_id: { sql: "a.correlation_id" },
  details: { sql: "(a.details::jsonb)" },
}

/** The record in a row. */
export function recordOf(row: AuditRow): AuditRecord {
  return {
    id: row.id,
    day: row.day,
    sequence: row.seq,
    timeMs: row.time.getTime(),
    recordMs: row.recorded_at.getTime(),
    actor: row.actor,
    action: row.action,
    resourceType: row.resource_type,
    resourceId: row.resource_id,
    outcome: row.outcome,
    ipAddress: row.ip_address,
    userAgent: row.user_agent,
    correlationId: row.correlation_id,
    detailsJson: row.details,
    prevHash: row.prev_hash,
    hash: row.hash,
  }
}

/** A row of a day's head with what is really there. */
export interface DayRow {
  readonly day: string
  readonly records: bigint
  readonly prev_hash: Buffer
  readonly head: Buffer
  readonly retired: boolean
  readonly last: bigint
}

/** The head in a row. */
export function dayOf(row: DayRow): AuditDayHead {
  return {
    day: row.day,
    records: row.records,
    prevHash: row.prev_hash,
    head: row.head,
    retired: row.retired,
    lastSequence: row.last,
  }
}

/** The `where` of a query over the table aliased `a`; $1 is the tenant, further values are appended to `values`. */
export function auditWhere(query: AuditQuery, values: unknown[]): string {
  const conditions = ["a.tenant = $1"]
  const equal = (column: string, value: string | undefined): void => {
    if (value !== undefined) conditions.push(`a.${column} = $${values.push(value)}`)
  }
  equal("actor", query.actor)
  equal("action", query.action)
  equal("resource_type", query.resourceType)
  equal("resource_id", query.resourceId)
  equal("outcome", query.outcome)
  if (query.startMs !== undefined) {
    conditions.push(`a.time >= $${values.push(new Date(query.startMs))}::timestamptz`)
  }
  if (query.endMs !== undefined)
    conditions.push(`a.time < $${values.push(new Date(query.endMs))}::timestamptz`)
  if (query.filter !== undefined) conditions.push(filterSql(query.filter, FILTER_COLUMNS, values))
  return conditions.join(" and ")
}
