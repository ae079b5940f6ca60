/** Rows of the event tables as the domain's types. */
import type { EventData, Snapshot, StoredEvent, StreamInfo } from "../../domain/event/event-model.ts"
import type { Statement } from "./database.ts"

/** A row of {@link EVENT_COLUMNS}. */
export interface EventRow {
  readonly stream: string
  readonly revision: bigint
  readonly event_id: string
  readonly type: string
  readonly json: string | null
  readonly bin: Buffer | null
  readonly content_type: string
  readonly metadata: string | null
  readonly state_patch: string | null
  readonly correlation_id: string
  readonly causation_id: string
  readonly trace_parent: string
  readonly occurred_at: Date
  readonly recorded_at: Date
}

/** The columns of {@link EventRow}, of a table named e. */
export const EVENT_COLUMNS = `e.stream, e.revision, e.event_id, e.type, e.json, e.bin, e.content_type, e.metadata,
  e.state_patch, e.correlation_id, e.causation_id, e.trace_parent, e.occurred_at, e.recorded_at`

/** An event from its row. */
export function eventOf(row: EventRow): StoredEvent {
  return {
    stream: row.stream,
    revision: row.revision,
    eventId: row.event_id,
    type: row.type,
    data: dataOf(row),
    contentType: row.content_type,
    metadata: row.metadata ?? undefined,
    statePatch: row.state_patch ?? undefined,
    correlationId: row.correlation_id,
    causationId: row.causation_id,
    traceParent: row.trace_parent,
    occurredMs: row.occurred_at.getTime(),
    recordedMs: row.recorded_at.getTime(),
  }
}

function dataOf({ json, bin }: EventRow): EventData | undefined {
  if (json !== null) return { kind: "json", text: json }
  return bin === null ? undefined : { kind: "binary", bytes: bin }
}

/** A row of {@link STREAM_COLUMNS}. */
export interface StreamRow {
  readonly stream: string
  readonly category: string
  readonly head: bigint
  readonly first_revision: bigint
  readonly created_at: Date
  readonly recorded_at: Date
  readonly deleted_at: Date | null
}

/** The columns of {@link StreamRow}, of a table named s. */
export const STREAM_COLUMNS =
  "s.stream, s.category, s.head, s.first_revision, s.created_at, s.recorded_at, s.deleted_at"

/** A stream from its row. */
export function streamOf(row: StreamRow): StreamInfo {
  return {
    stream: row.stream,
    category: row.category,
    head: row.head,
    first: row.first_revision,
    createdMs: row.created_at.getTime(),
    recordedMs: row.recorded_at.getTime(),
    deletedMs: row.deleted_at?.getTime(),
  }
}

/** A row of {@link SNAPSHOT_COLUMNS}. */
export interface SnapshotRow {
  readonly stream: string
  readonly projection: string
  readonly revision: bigint
  readonly state: string
  readonly created_at: Date
}

/** The columns of {@link SnapshotRow}. */
export const SNAPSHOT_COLUMNS = "stream, projection, revision, state, created_at"

/** A snapshot from its row. */
export function snapshotOf({ created_at, ...row }: SnapshotRow): Snapshot {
  return { ...row, createdMs: created_at.getTime() }
}

/**
 * Takes exclusive access to streams, also to those that do not exist yet, until the transaction ends. In the order of their
 * keys, so that no two transactions wait for each other; and without a transaction id, on which the feed's order rests.
 */
export function lockStreams(tenant: string, streams: readonly string[]): Statement {
  return {
    name: "event_lock",
    text: `select pg_advisory_xact_lock(k.key) from (
      select distinct hashtextextended($1 || '/' || n.name, 20) as key from unnest($2::text[]) as n(name) order by 1) k`,
    values: [tenant, streams],
  }
}
