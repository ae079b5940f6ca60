/** Streams as a whole: listing, truncation, tombstones, and giving back their space. */
import { streamDeleted } from "../../domain/event/decide-append.ts"
import type { Snapshot, StreamInfo } from "../../domain/event/event-model.ts"
import type { SnapshotDraft, StreamQuery } from "../../domain/event/event-store.ts"
import { DomainError, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Tx } from "./database.ts"
import { streamStatement } from "./event-read.ts"
import {
  lockStreams,
  type SnapshotRow,
  STREAM_COLUMNS,
  type StreamRow,
  snapshotOf,
  streamOf,
} from "./event-rows.ts"
import { snapshotStatement } from "./event-snapshots.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"

const FILTER_COLUMNS: FilterColumns = {
  stream: { sql: "s.stream" },
  category: { sql: "s.category" },
  revision: { sql: "s.head" },
  first_revision: { sql: "s.first_revision" },
  create_time: { sql: "s.created_at" },
  update_time: { sql: "s.recorded_at" },
  deleted: { sql: "(s.deleted_at is not null)" },
}

/** See EventStore.listStreams. */
export async function listStreams(
  database: Database,
  scope: CallScope,
  query: StreamQuery,
  page: PageRequest,
): Promise<Page<StreamInfo>> {
  const values: unknown[] = [scope.tenant, page.size + 1]
  const where = ["s.tenant = $1"]
  const param = (value: unknown): string => `$${values.push(value)}`
  if (!query.showDeleted) where.push("s.deleted_at is null")
  if (query.category !== undefined) where.push(`s.category = ${param(query.category)}`)
  if (query.prefix !== undefined) {
    const prefix = `${param(query.prefix)}::text`
    // The range is for the index; no name is longer than 256 bytes.
    where.push(
      `s.stream >= ${prefix} and s.stream <= ${prefix} || repeat(chr(1114111), 64) and starts_with(s.stream, ${prefix})`,
    )
  }
  const [after] = page.cursor ?? []
  if (after !== undefined) where.push(`s.stream > ${param(after)}`)
  if (query.filter !== undefined) where.push(filterSql(query.filter, FILTER_COLUMNS, values))
  const { rows } = await database.query<StreamRow>(scope, {
    text: `select ${STREAM_COLUMNS} from streams s where ${where.join(" and ")} order by s.stream limit $2`,
    values,
  })
  const items = rows.slice(0, page.size).map(streamOf)
  const last = items.at(-1)
  return { items, next: rows.length > page.size && last !== undefined ? [last.stream] : undefined }
}

async function exclusive(tx: Tx, stream: string): Promise<StreamInfo> {
  const [, found] = await tx.pipeline([
    lockStreams(tx.scope.tenant, [stream]),
    streamStatement(tx.scope.tenant, stream),
  ])
  // The columns are those of the statement.
  const [row] = (found?.rows ?? []) as unknown as StreamRow[]
  if (row === undefined) throw notFound("stream", stream)
  return streamOf(row)
}

function pastHead(field: string, value: bigint, info: StreamInfo): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    `${field} ${value} lies past the last event of stream "${info.stream}", which has revision ${info.head}`,
    { metadata: { resource: "stream", name: info.stream, state: `revision ${info.head}` } },
  )
}

function beforeFirst(info: StreamInfo): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    `the state of stream "${info.stream}" is known only from revision ${info.first - 1n} on, where it was truncated`,
    {
      metadata: {
        resource: "stream",
        name: info.stream,
        state: `revisions ${info.first - 1n} to ${info.head}`,
      },
    },
  )
}

function changedMeanwhile(info: StreamInfo): DomainError {
  return new DomainError(
    "OVERLOADED",
    `stream "${info.stream}" changed meanwhile; nothing was done, repeat it`,
    {
      metadata: { resource: "stream", name: info.stream },
      retryDelayMs: 100,
    },
  )
}

/** See EventStore.saveSnapshot. */
export function saveSnapshot(
  database: Database,
  scope: CallScope,
  draft: SnapshotDraft,
  now: number,
): Promise<Snapshot> {
  return database.mutate(scope, "saveSnapshot", async (tx) => {
    const { stream, projection, state } = draft
    const info = await exclusive(tx, stream)
    if (info.deletedMs !== undefined) throw streamDeleted(stream)
    const revision = draft.revision ?? info.head
    if (revision > info.head) throw pastHead("revision", revision, info)
    if (revision < info.first - 1n) throw beforeFirst(info)
    if (state === undefined) throw changedMeanwhile(info)
    const { rows } = await tx.query<SnapshotRow>(
      snapshotStatement(scope.tenant, { stream, projection, revision, state }, now),
    )
    const [row] = rows
    if (row === undefined) throw new Error("an upsert answers its row")
    return snapshotOf(row)
  })
}

/** See EventStore.truncateStream. */
export function truncateStream(
  database: Database,
  scope: CallScope,
  cut: { readonly stream: string; readonly before: bigint; readonly state: string | undefined },
  now: number,
): Promise<StreamInfo> {
  const { stream, before, state } = cut
  return database.mutate(scope, "truncateStream", async (tx) => {
    const info = await exclusive(tx, stream)
    if (info.deletedMs !== undefined) throw streamDeleted(stream)
    if (before > info.head + 1n) throw pastHead("before_revision", before, info)
    if (before <= info.first) return info
    if (state === undefined) throw changedMeanwhile(info)
    await tx.pipeline([
      snapshotStatement(scope.tenant, { stream, projection: "", revision: before - 1n, state }, now),
      {
        name: "event_truncate",
        text: "update streams set first_revision = $3 where tenant = $1 and stream = $2",
        values: [scope.tenant, stream, before],
      },
    ])
    return { ...info, first: before }
  })
}

/** See EventStore.deleteStream. */
export function deleteStream(
  database: Database,
  scope: CallScope,
  stream: string,
  ifRevision: bigint | undefined,
  now: number,
): Promise<StreamInfo> {
  return database.mutate(scope, "deleteStream", async (tx) => {
    const info = await exclusive(tx, stream)
    if (info.deletedMs !== undefined) return info
    if (ifRevision !== undefined && ifRevision !== info.head) {
      throw revisionMismatch("stream", stream, ifRevision, info.head)
    }
    await tx.query({
      name: "event_delete",
      // The sweeper has to come by once more for the snapshots, also where no event is left.
      text: `update streams set deleted_at = $3, first_revision = head + 1, swept_before = least(swept_before, head)
        where tenant = $1 and stream = $2`,
      values: [scope.tenant, stream, new Date(now)],
    })
    return { ...info, first: info.head + 1n, deletedMs: now }
  })
}

interface SweepRow {
  readonly tenant: string
  readonly stream: string
  readonly swept_before: bigint
  readonly first_revision: bigint
  readonly deleted: boolean
}

/** See EventStore.sweep. Revisions have no gaps, so a range of them is a number of events. */
export async function sweepStreams(database: Database, scope: CallScope, limit: number): Promise<number> {
  let swept = 0
  while (swept < limit) {
    const count = await database.transaction(scope, (tx) => sweepOne(tx, BigInt(limit - swept)))
    if (count === 0) break
    swept += count
  }
  return swept
}

async function sweepOne(tx: Tx, limit: bigint): Promise<number> {
  const { rows } = await tx.query<SweepRow>({
    name: "event_sweep_next",
    text: `select tenant, stream, swept_before, first_revision, deleted_at is not null as deleted
      from streams where swept_before < first_revision order by tenant, stream limit 1 for update skip locked`,
  })
  const [row] = rows
  if (row === undefined) return 0
  let to = row.swept_before + limit
  if (to > row.first_revision) to = row.first_revision
  const keep = row.deleted ? row.first_revision + 1n : row.first_revision - 1n
  await tx.pipeline([
    {
      name: "event_sweep_events",
      text: "delete from events where tenant = $1 and stream = $2 and revision >= $3 and revision < $4",
      values: [row.tenant, row.stream, row.swept_before, to],
    },
    {
      name: "event_sweep_snapshots",
      text: "delete from snapshots where tenant = $1 and stream = $2 and revision < $3",
      values: [row.tenant, row.stream, keep],
    },
    {
      name: "event_sweep_mark",
      text: "update streams set swept_before = $3 where tenant = $1 and stream = $2",
      values: [row.tenant, row.stream, to],
    },
  ])
  return Number(to - row.swept_before)
}
