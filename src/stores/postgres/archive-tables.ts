/** Which table has the items of a kind, where that is not what their names say. */
import type { Kind } from "../../domain/archive/model.ts"
import { LOST_ATTEMPT } from "./job-claim.ts"

/** A table as an archive sees it. Expressions are over the table as `j`. */
export interface ArchiveTable {
  readonly name: string
  /** Columns of fields that are not called as the field is. */
  readonly columns?: Readonly<Record<string, string>>
  /** What is read for a field in place of its column. */
  readonly read?: Readonly<Record<string, string>>
  /** What else has to hold. $2 is the time. */
  readonly where?: string
  /** The order of items. */
  readonly order: string
  /** About the bytes of a row beside a few hundred; for rows that may be large. */
  readonly bytes?: string
}

// A running job without its lease: queued, unless its end was asked for. The attempt is lost, as it would be with the daemon.
const RUNNING = "j.status = 'running'"
const ENDS = `${RUNNING} and j.cancel_requested`
const afterLoss = (queued: string, cancelled: string, otherwise: string) =>
  `case when ${ENDS} then ${cancelled} when ${RUNNING} then ${queued} else ${otherwise} end`
/** Ended jobs are kept for so long where nothing else is known. */
const KEPT = "interval '30 days'"

const LIVE = "(j.expires_at is null or j.expires_at > $2::timestamptz)"
const SUBJECT = "j.subject_kind, j.subject_id"

/** All tables that need nothing but copying. */
export const ARCHIVE_TABLES = {
  stream: {
    name: "streams",
    columns: {
      first: "first_revision",
      createTime: "created_at",
      recordTime: "recorded_at",
      deleteTime: "deleted_at",
    },
    order: "j.stream",
  },
  event: {
    name: "events",
    columns: { binary: "bin", occurTime: "occurred_at", recordTime: "recorded_at" },
    // Not a join, which might come in another order.
    where:
      "j.revision >= (select s.first_revision from streams s where s.tenant = j.tenant and s.stream = j.stream)",
    order: "j.txid, j.position",
    bytes: "j.size",
  },
  snapshot: {
    name: "snapshots",
    columns: { createTime: "created_at" },
    where: `j.revision >= (select s.first_revision - 1 from streams s
      where s.tenant = j.tenant and s.stream = j.stream and s.deleted_at is null)`,
    order: "j.stream, j.projection, j.revision",
    bytes: "octet_length(j.state)",
  },
  session: {
    name: "sessions",
    columns: {
      createTime: "created_at",
      updateTime: "updated_at",
      activeTime: "active_at",
      endTime: "ended_at",
      expireTime: "expires_at",
    },
    where: LIVE,
    order: "j.session_id",
    bytes: "j.size",
  },
  message: {
    name: "session_messages",
    columns: { createTime: "created_at" },
    where: `$2::timestamptz < (select s.expires_at from sessions s
      where s.tenant = j.tenant and s.session_id = j.session_id)`,
    order: "j.session_id, j.sequence",
    bytes: "j.size",
  },
  auditDay: {
    name: "audit_days",
    columns: { retired: "retired_at" },
    read: { day: "j.day::text", retired: "j.retired_at is not null" },
    order: "j.day",
  },
  auditRecord: {
    name: "audit_records",
    columns: { sequence: "seq", recordTime: "recorded_at" },
    read: { day: "j.day::text" },
    order: "j.day, j.seq",
    bytes: "octet_length(j.details)",
  },
  job: {
    name: "jobs",
    columns: {
      availableTime: "available_at",
      createTime: "created_at",
      startTime: "started_at",
      endTime: "ended_at",
      expireTime: "expires_at",
    },
    read: {
      status: afterLoss("'queued'", "'cancelled'", "j.status"),
      availableTime: afterLoss("j.started_at", "null", "j.available_at"),
      endTime: afterLoss("null", "j.started_at", "j.ended_at"),
      expireTime: afterLoss("null", `$2::timestamptz + ${KEPT}`, "j.expires_at"),
      attemptsLeft: afterLoss("greatest(j.attempts_left, 1)", "j.attempts_left", "j.attempts_left"),
      cancelRequested: `j.cancel_requested and not (${RUNNING})`,
      progress: `case when ${RUNNING} then null else j.progress end`,
      history: `array_to_json(case when ${RUNNING} then job_history(j.history, ${LOST_ATTEMPT}) else j.history end)`,
    },
    where: LIVE,
    order: "j.id",
    bytes: `coalesce(octet_length(j.payload), 0) + coalesce(octet_length(j.result), 0)
      + coalesce(octet_length(j.progress), 0) + coalesce(octet_length(j.error), 0)`,
  },
  usageEvent: { name: "usage_events", order: "j.meter, j.event_time, j.event_id" },
  usageMonth: { name: "usage_months", read: { month: "j.month::text" }, order: "j.meter, j.month" },
  usageDay: { name: "usage_days", read: { day: "j.day::text" }, order: `j.meter, ${SUBJECT}, j.day` },
  budget: { name: "budgets", order: "j.id" },
  reservation: { name: "usage_reservations", order: "j.reservation_id, j.meter" },
  configVersion: {
    name: "config_versions",
    columns: { struct: "struct_value", binary: "bytes_value" },
    order: "j.sequence",
    bytes: "coalesce(octet_length(j.struct_value), 0) + coalesce(octet_length(j.bytes_value), 0)",
  },
  user: { name: "users", order: "j.id" },
  agent: { name: "agents", order: "j.id", bytes: "octet_length(j.metadata::text)" },
  role: { name: "roles", order: "j.id" },
  apiKey: { name: "api_keys", order: "j.id" },
  roleAssignment: { name: "role_assignments", order: `${SUBJECT}, j.role_id, j.resource` },
  // Belongs to the platform; read and written as such.
  tenant: { name: "tenants", where: "j.id = $3", order: "j.id" },
} as const satisfies Partial<Record<Kind, ArchiveTable>>

/** The kinds of {@link ARCHIVE_TABLES}. */
export type TableKind = keyof typeof ARCHIVE_TABLES

/** The column of a field. */
export function columnOf(table: ArchiveTable, field: string): string {
  return table.columns?.[field] ?? field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
