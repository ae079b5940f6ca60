/** Reading and deleting records of the Memory plane in SQL. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { Filter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import { type CallScope, PLATFORM_TENANT } from "../../domain/kernel/scope.ts"
import { mirrorChanges } from "../../domain/memory/mirror.ts"
import {
  type Collection,
  type MemoryRecord,
  type RecordOrder,
  type RecordParts,
  recordCursor,
} from "../../domain/memory/model.ts"
import type { Database } from "./database.ts"
import { filterSql } from "./filter-sql.ts"
import {
  COLLECTION_COLUMNS,
  type CollectionRow,
  here,
  isLive,
  RECORD_FILTER_COLUMNS,
  type RecordRow,
  recordColumns,
  toCollection,
  toRecord,
} from "./memory-rows.ts"
import { appendOutbox } from "./outbox-append.ts"

/** The records of a collection that are live: `$1` tenant, `$2` collection key, `$3` now. */
const LIVE_RECORDS = `from memory_records r where r.tenant = $1 and r.collection_key = $2 and ${isLive(3)}`

function base(scope: CallScope, clock: Clock, collection: Collection): unknown[] {
  return [scope.tenant, collection.ref, new Date(clock.now())]
}

function condition(filter: Filter | undefined, values: unknown[]): string {
  return filter === undefined ? "" : ` and ${filterSql(filter, RECORD_FILTER_COLUMNS, values)}`
}

/** See {@link MemoryStore.get}. */
export async function getRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  ids: readonly string[],
  parts: RecordParts,
): Promise<readonly MemoryRecord[]> {
  const { rows } = await database.query<RecordRow>(scope, {
    text: `select ${recordColumns(parts)} ${LIVE_RECORDS} and r.id = any($4::text[])`,
    values: [...base(scope, clock, collection), ids],
  })
  const byId = new Map(rows.map((row) => [row.id, toRecord(row)]))
  return ids.flatMap((id) => byId.get(id) ?? [])
}

/** See {@link MemoryStore.weigh}. */
export async function weighRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  ids: readonly string[],
  parts: RecordParts,
): Promise<ReadonlyMap<string, number>> {
  // Neither function fetches a value that is stored outside of its row. Half of a jsonb: long numbers take more there.
  const text = parts.text ? "octet_length(r.body)" : "0"
  const metadata = parts.metadata ? "pg_column_size(r.metadata) / 2" : "0"
  const { rows } = await database.query<{ id: string; bytes: number }>(scope, {
    text: `select r.id, ${text} + ${metadata} as bytes ${LIVE_RECORDS} and r.id = any($4::text[])`,
    values: [...base(scope, clock, collection), ids],
  })
  const vector = parts.vector ? collection.dimension * Float32Array.BYTES_PER_ELEMENT : 0
  return new Map(rows.map((row) => [row.id, row.bytes + vector]))
}

/** See {@link MemoryStore.list}. */
export async function listRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  query: {
    readonly filter: Filter | undefined
    readonly order: RecordOrder
    readonly parts: RecordParts
    readonly page: PageRequest
  },
): Promise<Page<MemoryRecord>> {
  const { order, page, parts } = query
  const values = base(scope, clock, collection)
  const where = condition(query.filter, values)
  const direction = order.descending ? "desc" : "asc"
  const by = order.by === "id" ? "r.id" : `r.${order.by} ${direction}, r.id`
  const { rows } = await database.query<RecordRow>(scope, {
    text: `select ${recordColumns(parts)} ${LIVE_RECORDS}${where}${after(order, page, values)}
      order by ${by} ${direction} limit $${values.push(page.size + 1)}`,
    values,
  })
  const items = rows.slice(0, page.size).map(toRecord)
  const last = items.at(-1)
  return {
    items,
    next: rows.length > page.size && last !== undefined ? recordCursor(order, last) : undefined,
  }
}

function after(order: RecordOrder, page: PageRequest, values: unknown[]): string {
  const [id, time] = page.cursor ?? []
  if (id === undefined) return ""
  const comparison = order.descending ? "<" : ">"
  if (order.by === "id" || time === undefined) return ` and r.id ${comparison} $${values.push(id)}::text`
  const at = values.push(new Date(Number(time)))
  return ` and (r.${order.by}, r.id) ${comparison} ($${at}::timestamptz, $${values.push(id)}::text)`
}

/** See {@link MemoryStore.count}. */
export async function countRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  filter: Filter | undefined,
): Promise<number> {
  const values = base(scope, clock, collection)
  const { rows } = await database.query<{ count: bigint }>(scope, {
    text: `select count(*) as count ${LIVE_RECORDS}${condition(filter, values)}`,
    values,
  })
  return Number(rows[0]?.count ?? 0n)
}

/** See {@link MemoryStore.delete}. */
export function deleteRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collectionId: string,
  selection: { readonly ids: readonly string[] } | { readonly filter: Filter },
): Promise<number> {
  return database.mutate(scope, "memory.delete", async (tx) => {
    const found = await tx.query<CollectionRow>({
      text: `select ${COLLECTION_COLUMNS} from memory_collections where tenant = $1 and id = $2`,
      values: [scope.tenant, collectionId],
    })
    const [row] = found.rows
    if (row === undefined) throw notFound("collection", collectionId)
    const collection = here(toCollection(row))
    const values: unknown[] = [scope.tenant, row.key, new Date(clock.now())]
    const which =
      "ids" in selection
        ? ` and r.id = any($${values.push(selection.ids)}::text[])`
        : condition(selection.filter, values)
    if (row.storage_mode !== "MIRRORED") {
      const { count } = await tx.query({ text: `delete ${LIVE_RECORDS}${which}`, values })
      return count
    }
    const { rows } = await tx.query<{ id: string }>({
      text: `delete ${LIVE_RECORDS}${which} returning r.id`,
      values,
    })
    const ids = rows.map(({ id }) => id)
    appendOutbox(tx, mirrorChanges(scope.tenant, collection, ids))
    return ids.length
  })
}

/** See {@link MemoryStore.sweep}. */
export async function sweepRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  limit: number,
): Promise<number> {
  const { count } = await database.query(scope, {
    text: `delete from memory_records where ctid = any(array(select ctid from memory_records
      where expire_time <= $1 and (tenant = $2 or $2 = $3) order by expire_time limit $4))`,
    values: [new Date(clock.now()), scope.tenant, PLATFORM_TENANT, limit],
  })
  return count
}
