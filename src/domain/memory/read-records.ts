/** Reads many records without ever holding more of them than one answer may weigh. */
import { limitExceeded } from "../kernel/errors.ts"
import type { Filter } from "../kernel/filter/index.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import { type MemoryRecord, type RecordOrder, type RecordParts, recordBytes, recordCursor } from "./model.ts"
import type { MemoryStore } from "./ports.ts"

/** Weight at which a page ends early: gRPC clients refuse messages over 4 MiB by default. */
export const PAGE_BYTES = 3 * 1024 * 1024
/** Most that one answer by id may weigh. */
export const GET_BYTES = 64 * 1024 * 1024
/** Records read from the store at once where they carry text or vectors. */
const HEAVY_ROWS = 100
const ROWS = 1000

function rowsAtOnce(parts: RecordParts): number {
  return parts.text || parts.vector || parts.metadata ? HEAVY_ROWS : ROWS
}

/** Which records to list. */
export interface ListQuery {
  readonly filter: Filter | undefined
  readonly order: RecordOrder
  readonly parts: RecordParts
}

/** One page of records; it may end before `page.size` where records are heavy. NOT_FOUND for the collection. */
export async function listRecords(
  store: MemoryStore,
  scope: CallScope,
  collectionId: string,
  query: ListQuery,
  page: PageRequest,
): Promise<Page<MemoryRecord>> {
  const collection = await store.getCollection(scope, collectionId)
  const items: MemoryRecord[] = []
  let bytes = 0
  let cursor = page.cursor
  for (;;) {
    const size = Math.min(page.size - items.length, rowsAtOnce(query.parts))
    const part = await store.list(scope, collection, { ...query, page: { size, cursor } })
    for (const record of part.items) {
      bytes += recordBytes(record)
      if (bytes > PAGE_BYTES && items.length > 0) return { items, next: cursor }
      items.push(record)
      cursor = recordCursor(query.order, record)
    }
    if (part.next === undefined || items.length >= page.size) return { items, next: part.next }
  }
}

/** The records of `ids` that exist, in that order. NOT_FOUND for the collection, LIMIT_EXCEEDED over {@link GET_BYTES}. */
export async function getRecords(
  store: MemoryStore,
  scope: CallScope,
  collectionId: string,
  ids: readonly string[],
  parts: RecordParts,
): Promise<readonly MemoryRecord[]> {
  const collection = await store.getCollection(scope, collectionId)
  const records: MemoryRecord[] = []
  let bytes = 0
  const step = rowsAtOnce(parts)
  for (let at = 0; at < ids.length; at += step) {
    for (const record of await store.get(scope, collection, ids.slice(at, at + step), parts)) {
      bytes += recordBytes(record)
      if (bytes > GET_BYTES) throw limitExceeded("answer_bytes", bytes, GET_BYTES)
      records.push(record)
    }
  }
  return records
}

/** All records that satisfy the filter, in byte order of their ids, page by page. NOT_FOUND for the collection. */
export async function* exportRecords(
  store: MemoryStore,
  scope: CallScope,
  collectionId: string,
  query: Pick<ListQuery, "filter" | "parts">,
  cursor: readonly string[] | undefined,
): AsyncGenerator<{ readonly records: readonly MemoryRecord[]; readonly cursor: readonly string[] }> {
  const order: RecordOrder = { by: "id", descending: false }
  let from = cursor
  for (;;) {
    scope.signal.throwIfAborted()
    const page = await listRecords(
      store,
      scope,
      collectionId,
      { ...query, order },
      { size: 200, cursor: from },
    )
    const last = page.items.at(-1)
    if (last === undefined) return
    from = recordCursor(order, last)
    yield { records: page.items, cursor: from }
    if (page.next === undefined) return
  }
}
