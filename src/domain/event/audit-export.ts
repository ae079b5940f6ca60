/** The audit log as a file. */
import type { CallScope } from "../kernel/scope.ts"
import type { AuditRecord } from "./audit-model.ts"
import type { AuditPosition, AuditQuery, AuditStore } from "./audit-ports.ts"

/** File formats. */
export type AuditExportFormat = "json_lines" | "csv"

/** A piece of the file: whole lines. */
export interface AuditChunk {
  readonly data: Uint8Array
  readonly records: number
  /** Where the piece ends; absent when the log has nothing to export and the piece is but a header. */
  readonly position?: AuditPosition | undefined
}

const CHUNK_BYTES = 256 * 1024
const BATCH = 500

/**
 * The records that match, in the order of recording, as pieces of a file. Begins after `after` when resuming, and then has
 * no CSV header. Ends when it has caught up with the log.
 */
export async function* exportAudit(
  scope: CallScope,
  store: AuditStore,
  query: AuditQuery,
  format: AuditExportFormat,
  after?: AuditPosition,
): AsyncGenerator<AuditChunk, void, undefined> {
  const line = format === "csv" ? csvLine : jsonLine
  let position = after
  let text = format === "csv" && after === undefined ? csvRow(COLUMNS) : ""
  let records = 0
  for (;;) {
    const batch = await store.scan(scope, query, position, BATCH)
    for (const record of batch) {
      text += line(record)
      records++
      position = { day: record.day, sequence: record.sequence }
      if (text.length < CHUNK_BYTES) continue
      yield { data: Buffer.from(text), records, position }
      text = ""
      records = 0
    }
    if (batch.length < BATCH) break
  }
  if (text !== "") yield { data: Buffer.from(text), records, position }
}

const COLUMNS = [
  "record_id",
  "day",
  "sequence",
  "time",
  "record_time",
  "actor",
  "action",
  "resource_type",
  "resource_id",
  "outcome",
  "ip_address",
  "user_agent",
  "correlation_id",
  "details",
  "hash",
]

function cells(record: AuditRecord): string[] {
  return [
    record.id,
    record.day,
    record.sequence.toString(),
    new Date(record.timeMs).toISOString(),
    new Date(record.recordMs).toISOString(),
    record.actor,
    record.action,
    record.resourceType,
    record.resourceId,
    record.outcome,
    record.ipAddress,
    record.userAgent,
    record.correlationId,
    record.detailsJson,
    Buffer.from(record.hash).toString("hex"),
  ]
}

function jsonLine(record: AuditRecord): string {
  const members = cells(record).map((cell, i) => {
    const name = COLUMNS[i]
    // The details are JSON already and go in as they are; the sequence is a number.
    const raw = name === "details" || name === "sequence"
    return `"${name}":${raw ? cell : JSON.stringify(cell)}`
  })
  return `{${members.join(",")}}\n`
}

function csvLine(record: AuditRecord): string {
  return csvRow(cells(record))
}

function csvRow(values: readonly string[]): string {
  return `${values.map(csvCell).join(",")}\r\n`
}

/** One CSV cell: quoted where RFC 4180 asks for it, and never a formula to a spreadsheet. */
export function csvCell(value: string): string {
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
