/** Rows of the outbox as the domain sees them. */
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { OutboxEntry, ParkedEntry } from "../../domain/outbox/model.ts"

/** What {@link OUTBOX_COLUMNS} answers. */
export interface OutboxRow {
  readonly id: bigint
  readonly topic: string
  readonly tenant: string
  readonly key: string
  readonly op_id: string
  readonly payload: Buffer
  readonly trace_parent: string
  readonly created_at: Date
  readonly failures: number
  readonly strikes: number
}

/** The columns of an entry; the table is `o`. */
export const OUTBOX_COLUMNS =
  "o.id, o.topic, o.tenant, o.key, o.op_id, o.payload, o.trace_parent, o.created_at, o.failures, o.strikes"

/** An entry for its handler. */
export function outboxEntryOf(row: OutboxRow): OutboxEntry {
  return {
    id: String(row.id),
    topic: row.topic,
    // What was stored came from a scope.
    tenant: row.tenant as TenantId,
    key: row.key,
    opId: row.op_id,
    payload: row.payload,
    traceparent: row.trace_parent,
    createdMs: row.created_at.getTime(),
    failures: row.failures,
    strikes: row.strikes,
  }
}

/** What {@link PARKED_COLUMNS} answers. */
export interface ParkedRow {
  readonly id: bigint
  readonly topic: string
  readonly tenant: string
  readonly key: string
  readonly op_id: string
  readonly bytes: number
  readonly created_at: Date
  readonly parked_at: Date
  readonly failures: number
  readonly fault_reason: string | null
  readonly fault_message: string | null
}

/** The columns of a parked entry; the table is `o`. */
export const PARKED_COLUMNS = `o.id, o.topic, o.tenant, o.key, o.op_id, octet_length(o.payload) as bytes, o.created_at,
  o.parked_at, o.failures, o.fault_reason, o.fault_message`

/** A parked entry for operators. */
export function parkedEntryOf(row: ParkedRow): ParkedEntry {
  return {
    id: String(row.id),
    topic: row.topic,
    tenant: row.tenant as TenantId,
    key: row.key,
    opId: row.op_id,
    payloadBytes: row.bytes,
    createdMs: row.created_at.getTime(),
    parkedMs: row.parked_at.getTime(),
    failures: row.failures,
    fault: { reason: row.fault_reason ?? "", message: row.fault_message ?? "" },
  }
}
