/** Rows of the table of events as the domain's types, and ranges of them over buckets. */
import type { EventData, EventDraft, StoredEvent } from "../../domain/event/event-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster, Statement } from "./database.ts"
import type { Buckets } from "./event-tip.ts"

/** What a look at an event costs little to know. */
export interface EventGlance {
  readonly bucket: bigint
  readonly revision: bigint
  readonly type: string
  readonly size: number
  readonly recordedMs: number
  /** Which conditional write made it. */
  readonly attempt: string
}

interface GlanceRow {
  readonly bucket: bigint
  readonly revision: bigint
  readonly type: string
  readonly size: number
  readonly recorded_ms: bigint
  readonly attempt: { toString(): string }
}

interface EventRow {
  readonly stream: string
  readonly revision: bigint
  readonly event_id: { toString(): string }
  readonly type: string
  readonly json: string | null
  readonly bin: Buffer | null
  readonly content_type: string
  readonly metadata: string | null
  readonly state_patch: string | null
  readonly correlation_id: string
  readonly causation_id: string
  readonly trace_parent: string
  readonly occurred_ms: bigint
  readonly recorded_ms: bigint
}

const COLUMNS = `stream, revision, event_id, type, json, bin, content_type, metadata, state_patch, correlation_id,
  causation_id, trace_parent, occurred_ms, recorded_ms`

/** A part of a stream; both ends inclusive. */
export interface EventRange {
  readonly stream: string
  readonly from: bigint
  readonly to: bigint
  readonly backwards?: boolean
}

const IN_ORDER = "order by kind asc, revision asc, request asc"
const REVERSED = "order by kind desc, revision desc, request desc"

/** Reads events. */
export class EventRows {
  readonly #cluster: Cluster
  readonly #buckets: Buckets

  constructor(cluster: Cluster, buckets: Buckets) {
    this.#cluster = cluster
    this.#buckets = buckets
  }

  /** Glances in the order of the range, as they are taken. */
  async *glances(scope: CallScope, range: EventRange, pageRows: number): AsyncGenerator<EventGlance> {
    for await (const row of this.#rows<GlanceRow>(
      scope,
      range,
      "bucket, revision, type, size, recorded_ms, attempt",
      pageRows,
    )) {
      const { bucket, revision, type, size } = row
      yield {
        bucket,
        revision,
        type,
        size,
        recordedMs: Number(row.recorded_ms),
        attempt: row.attempt.toString(),
      }
    }
  }

  /** State patches with their revisions and the events' sizes; null where an event has none. */
  patches(
    scope: CallScope,
    range: EventRange,
  ): AsyncGenerator<{
    readonly revision: bigint
    readonly state_patch: string | null
    readonly size: number
  }> {
    return this.#rows(scope, range, "revision, state_patch, size", PATCH_ROWS)
  }

  async *#rows<R>(
    scope: CallScope,
    { stream, from, to, backwards = false }: EventRange,
    columns: string,
    pageRows: number,
  ): AsyncGenerator<R> {
    if (from > to) return
    const buckets = this.#buckets.of(from, to)
    for (const bucket of backwards ? buckets.toReversed() : buckets) {
      const statement = {
        cql: `select ${columns} from events where tenant = ? and stream = ? and bucket = ? and kind = 0
          and revision >= ? and revision <= ? ${backwards ? REVERSED : IN_ORDER}`,
        values: [scope.tenant, stream, bucket, from, to],
      }
      for await (const page of this.#cluster.pages<R>(scope, statement, { pageRows })) yield* page
    }
  }

  /** The events that were glanced at, by revision. Those that were reclaimed meanwhile are missing. */
  async pick(
    scope: CallScope,
    stream: string,
    glances: readonly EventGlance[],
  ): Promise<ReadonlyMap<bigint, StoredEvent>> {
    const byBucket = Map.groupBy(glances, ({ bucket }) => bucket)
    const found = await Promise.all(
      [...byBucket].map(([bucket, those]) =>
        this.#cluster.read<EventRow>(scope, {
          cql: `select ${COLUMNS} from events where tenant = ? and stream = ? and bucket = ? and kind = 0 and revision in ?`,
          values: [scope.tenant, stream, bucket, those.map(({ revision }) => revision)],
        }),
      ),
    )
    return new Map(found.flat().map((row) => [row.revision, eventOf(row)]))
  }

  /** Id and time of the event at a revision; undefined where there is none. */
  async at(
    scope: CallScope,
    stream: string,
    revision: bigint,
  ): Promise<
    { readonly eventId: string; readonly recordedMs: number; readonly attempt: string } | undefined
  > {
    interface Found extends GlanceRow {
      readonly event_id: { toString(): string }
    }
    for (const bucket of this.#buckets.of(revision, revision)) {
      const [row] = await this.#cluster.read<Found>(scope, {
        cql: `select event_id, recorded_ms, attempt from events where tenant = ? and stream = ? and bucket = ? and kind = 0
          and revision = ?`,
        values: [scope.tenant, stream, bucket, revision],
      })
      if (row !== undefined) {
        const recordedMs = Number(row.recorded_ms)
        return { eventId: row.event_id.toString(), recordedMs, attempt: row.attempt.toString() }
      }
    }
    return undefined
  }
}

const PATCH_ROWS = 64

function eventOf(row: EventRow): StoredEvent {
  return {
    stream: row.stream,
    revision: row.revision,
    eventId: row.event_id.toString(),
    type: row.type,
    data: dataOf(row),
    contentType: row.content_type,
    metadata: row.metadata ?? undefined,
    statePatch: row.state_patch ?? undefined,
    correlationId: row.correlation_id,
    causationId: row.causation_id,
    traceParent: row.trace_parent,
    occurredMs: Number(row.occurred_ms),
    recordedMs: Number(row.recorded_ms),
  }
}

function dataOf({ json, bin }: EventRow): EventData | undefined {
  if (json !== null) return { kind: "json", text: json }
  return bin === null ? undefined : { kind: "binary", bytes: bin }
}

/** An event that has its place. */
export interface PlacedEvent {
  readonly revision: bigint
  readonly recordedMs: number
  readonly event: EventDraft
}

/** Puts an event into a bucket; only in a batch with the bucket's head. */
export function insertEvent(
  tenant: string,
  stream: string,
  bucket: bigint,
  attempt: string,
  { revision, recordedMs, event }: PlacedEvent,
): Statement {
  return {
    cql: `insert into events (tenant, stream, bucket, kind, revision, request, attempt, event_id, type, json, bin, content_type,
        metadata, state_patch, correlation_id, causation_id, trace_parent, occurred_ms, recorded_ms, size)
      values (?, ?, ?, 0, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    values: [
      tenant,
      stream,
      bucket,
      revision,
      attempt,
      event.eventId,
      event.type,
      event.data?.kind === "json" ? event.data.text : undefined,
      event.data?.kind === "binary" ? Buffer.from(event.data.bytes) : undefined,
      event.contentType,
      event.metadata,
      event.statePatch,
      event.correlationId,
      event.causationId,
      event.traceParent,
      BigInt(Math.trunc(event.occurredMs ?? recordedMs)),
      BigInt(recordedMs),
      event.size,
    ],
  }
}
