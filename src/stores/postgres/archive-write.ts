/** Writing a tenant's rows as an archive has them. Rows that are there already stay. */
import {
  baseType,
  type FieldType,
  fieldsOf,
  type Item,
  type ItemOf,
  type Kind,
} from "../../domain/archive/model.ts"
import type { Session } from "../../domain/event/session-model.ts"
import { sessionBytes } from "../../domain/event/session-size.ts"
import type { JsonObject, JsonValue } from "../../domain/kernel/json.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { ARCHIVE_TABLES, type ArchiveTable, columnOf, type TableKind } from "./archive-tables.ts"
import type { Database, Statement } from "./database.ts"
import { platformScope } from "./platform-scope.ts"

/** Columns that an archive does not have, from the item. */
const DERIVED: Partial<Record<TableKind, (item: Item) => JsonObject>> = {
  // Everything that was hidden stays behind, so nothing is left to sweep.
  stream: (item) => ({ swept_before: String((item as ItemOf<"stream">).first) }),
  session: (item) => ({ size: sessionBytes(sessionIn(item as ItemOf<"session">)) }),
  auditDay: (item) => ({
    retired_at: (item as ItemOf<"auditDay">).retired ? new Date().toISOString() : null,
  }),
}

/** What else has to be said about the rows, in the same transaction. $1 is the tenant, $2 the rows. */
const BESIDE: Partial<Record<TableKind, readonly string[]>> = {
  auditDay: [
    `insert into audit_chains as c (tenant, day, records, prev_hash, head)
      select $1, r.day, r.records, r.prev_hash, r.head from json_populate_recordset(null::audit_days, $2::json) r
      order by r.day desc limit 1
      on conflict (tenant) do update set day = excluded.day, records = excluded.records, prev_hash = excluded.prev_hash,
        head = excluded.head where c.day < excluded.day`,
  ],
  usageEvent: [
    `insert into usage_ids (tenant, event_id, body_hash, latest)
      select $1, r.event_id, r.body_hash, greatest(r.event_time, r.record_time)
      from json_populate_recordset(null::usage_events, $2::json) r on conflict do nothing`,
  ],
  configVersion: [
    `insert into config_sequences as s (tenant, last)
      select $1, max(r.sequence) from json_populate_recordset(null::config_versions, $2::json) r
      on conflict (tenant) do update set last = greatest(s.last, excluded.last)`,
    `insert into config_heads as h (tenant, key, version, deleted)
      select distinct on (r.key) $1, r.key, r.version, r.deleted
      from json_populate_recordset(null::config_versions, $2::json) r order by r.key, r.version desc
      on conflict (tenant, key) do update set version = excluded.version, deleted = excluded.deleted
      where h.version < excluded.version`,
  ],
}

/** The tenant's own entry may be there already, with nothing behind it. */
const REPLACE_TENANT = `on conflict (tenant, id) do update set display_name = excluded.display_name, labels = excluded.labels,
  status = excluded.status, plan = excluded.plan, limits = excluded.limits, revision = excluded.revision,
  create_time = excluded.create_time, update_time = excluded.update_time`

/** Writes items of a kind that is a table, in their order. */
export async function writeItems(
  database: Database,
  scope: CallScope,
  kind: TableKind,
  items: readonly Item[],
): Promise<void> {
  if (items.length === 0) return
  const of = kind === "tenant" ? platformScope(scope) : scope
  const insert = insertItems(kind, of, items, kind === "tenant" ? REPLACE_TENANT : "on conflict do nothing")
  const beside = (BESIDE[kind] ?? []).map((text): Statement => ({ text, values: insert.values ?? [] }))
  await database.transaction(of, async (tx) => {
    await tx.pipeline([insert, ...beside])
  })
}

/** Inserts at least one item of a kind. `conflict` says what becomes of rows that are there already. */
export function insertItems(
  kind: TableKind,
  { tenant }: CallScope,
  items: readonly Item[],
  conflict: string,
): Statement {
  const table: ArchiveTable = ARCHIVE_TABLES[kind]
  const rows = items.map((item) => rowOf(kind, table, item))
  const columns = Object.keys(rows[0] ?? {})
  return {
    text: `insert into ${table.name} (tenant, ${columns.join(", ")})
      select $1, ${columns.map((column) => `r.${column}`).join(", ")}
      from json_populate_recordset(null::${table.name}, $2::json) r ${conflict}`,
    values: [tenant, JSON.stringify(rows)],
  }
}

function rowOf(kind: Kind & TableKind, table: ArchiveTable, item: Item): JsonObject {
  const derived = DERIVED[kind]?.(item) ?? {}
  const row: JsonObject = {}
  for (const [field, type] of fieldsOf(kind)) row[columnOf(table, field)] = sqlJson(type, item[field])
  return { ...row, ...derived }
}

/** A value as PostgreSQL reads it out of JSON. */
function sqlJson(type: FieldType, value: unknown): JsonValue {
  if (value === null || value === undefined) return null
  switch (baseType(type).base) {
    case "int64":
      return String(value)
    case "time":
      return new Date(value as number).toISOString()
    case "bytes": {
      const bytes = value as Uint8Array
      return `\\x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")}`
    }
    default:
      // The types that JSON has, too.
      return value as JsonValue
  }
}

function sessionIn(item: ItemOf<"session">): Session {
  const { createTime, updateTime, activeTime, endTime, expireTime, ttlMs, status, ...rest } = item
  return {
    ...rest,
    // Only objects and these two words were ever written.
    metadata: item.metadata as JsonObject,
    status: status as Session["status"],
    expiry: ttlMs === null ? { kind: "at", expireMs: expireTime } : { kind: "ttl", ttlMs: Number(ttlMs) },
    messageRevision: item.messageCount,
    tokens: { input: item.inputTokens, output: item.outputTokens },
    createdMs: createTime,
    updatedMs: updateTime,
    activeMs: activeTime,
    endedMs: endTime ?? undefined,
    expireMs: expireTime,
  }
}
