/** Audit records as rows of their log, and what a segment's head says about the chain. */
import { AUDIT_GENESIS } from "../../domain/event/audit-chain.ts"
import type { AuditOutcome, AuditRecord } from "../../domain/event/audit-model.ts"
import type { AuditQuery } from "../../domain/event/audit-ports.ts"
import { decodeJson } from "../../domain/event/event-json.ts"
import { type FieldValue, matchesFilter } from "../../domain/kernel/filter/index.ts"
import type { LogHead, LogRow } from "./segment-rows.ts"

/** What a segment's head keeps of the chain. */
export interface ChainMeta {
  /** The head of the day before. */
  readonly prevHash: Uint8Array
  /** The last record's hash so far. */
  readonly head: Uint8Array
  /** Records of the day before this segment. */
  readonly first: bigint
}

/** The meta of a head; of what stands before the first segment, too. */
export function chainMeta({ meta }: Pick<LogHead, "meta">): ChainMeta {
  if (meta === "") return { prevHash: AUDIT_GENESIS, head: AUDIT_GENESIS, first: 0n }
  // Only this file writes it.
  const stored = JSON.parse(meta) as { prev: string; head: string; first: string }
  return {
    prevHash: Buffer.from(stored.prev, "hex"),
    head: Buffer.from(stored.head, "hex"),
    first: BigInt(stored.first),
  }
}

/** The other way. */
export function metaText({ prevHash, head, first }: ChainMeta): string {
  return JSON.stringify({ prev: hex(prevHash), head: hex(head), first: String(first) })
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex")
}

/** The day of a segment. */
export function dayOfSegment(segment: string): string {
  return segment.slice(0, 10)
}

/** A record as a row. */
export function rowOf(record: AuditRecord): LogRow {
  const { sequence, prevHash, hash, ...rest } = record
  return { seq: sequence, body: JSON.stringify({ ...rest, prevHash: hex(prevHash), hash: hex(hash) }) }
}

/** The record in a row. */
export function recordOf({ seq, body }: LogRow): AuditRecord {
  // Only this file writes bodies.
  const stored = JSON.parse(body) as Omit<AuditRecord, "sequence" | "prevHash" | "hash"> & {
    prevHash: string
    hash: string
  }
  return {
    ...stored,
    sequence: seq,
    prevHash: Buffer.from(stored.prevHash, "hex"),
    hash: Buffer.from(stored.hash, "hex"),
  }
}

/** What is known of a record without reading it. */
export interface AuditEntryRow {
  readonly timeMs: number
  readonly day: string
  readonly sequence: bigint
  readonly segment: string
  readonly actor: string
  readonly action: string
  readonly resourceType: string
  readonly resourceId: string
  readonly outcome: AuditOutcome
}

/** Whether everything but the filter of a query holds. */
export function fits(record: Omit<AuditEntryRow, "segment">, query: AuditQuery): boolean {
  const { actor, action, resourceType, resourceId, outcome, startMs, endMs } = query
  return (
    (actor === undefined || record.actor === actor) &&
    (action === undefined || record.action === action) &&
    (resourceType === undefined || record.resourceType === resourceType) &&
    (resourceId === undefined || record.resourceId === resourceId) &&
    (outcome === undefined || record.outcome === outcome) &&
    (startMs === undefined || record.timeMs >= startMs) &&
    (endMs === undefined || record.timeMs < endMs)
  )
}

/** Whether a query's filter holds, where it has one. */
export function passes(record: AuditRecord, { filter }: AuditQuery): boolean {
  return filter === undefined || matchesFilter(filter, (field) => FIELDS[field]?.(record))
}

const FIELDS: Readonly<Record<string, (record: AuditRecord) => FieldValue>> = {
  record_id: ({ id }) => id,
  actor: ({ actor }) => actor,
  action: ({ action }) => action,
  resource_type: ({ resourceType }) => resourceType,
  resource_id: ({ resourceId }) => resourceId,
  outcome: ({ outcome }) => outcome,
  time: ({ timeMs }) => timeMs,
  record_time: ({ recordMs }) => recordMs,
  ip_address: ({ ipAddress }) => ipAddress,
  user_agent: ({ userAgent }) => userAgent,
  correlation_id: ({ correlationId }) => correlationId,
  details: ({ detailsJson }) => decodeJson(detailsJson),
}

/** What a record has beside its texts, and how much JSON may grow on the wire. */
const RECORD_BYTES = 256
const JSON_GROWTH = 6

/** Bytes of a record on the wire, at most. */
export function recordBytes(record: AuditRecord): number {
  const { actor, action, resourceType, resourceId, ipAddress, userAgent, correlationId } = record
  const texts = [actor, action, resourceType, resourceId, ipAddress, userAgent, correlationId]
  const length = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  return RECORD_BYTES + length + Buffer.byteLength(record.detailsJson) * JSON_GROWTH
}
