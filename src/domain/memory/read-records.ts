/** Reads many records without ever holding more of them than one answer may weigh. */
import type { Filter } from "../kernel/filter/index.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import {
  ANSWER_BYTES,
  AnswerBudget,
  frameBytes,
  hasContent,
  loadRecords,
  recordBytes,
} from "./answer-size.ts"
import { type MemoryRecord, type RecordOrder, type RecordParts, recordCursor } from "./model.ts"
import type { MemoryStore } from "./ports.ts"

/** Records read from the store at once: where they carry text, metadata or vectors, as many as fit for sure at first. */
const FIRST_HEAVY_ROWS = 32
const HEAVY_ROWS = 200
const ROWS = 1000

/** How many records to read next: with some known, as many as fit if they weigh as much as those on average. */
function rowsAtOnce(parts: RecordParts, known: number, bytes: number): number {
  if (!hasContent(parts)) return ROWS
  if (known === 0) return FIRST_HEAVY_ROWS
  return Math.min(HEAVY_ROWS, 1 + Math.floor(((ANSWER_BYTES - bytes) * known) / bytes))
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
    const size = Math.min(page.size - items.length, rowsAtOnce(query.parts, items.length, bytes))
    const part = await store.list(scope, collection, { ...query, page: { size, cursor } })
    for (const record of part.items) {
      bytes += recordBytes(record)
      if (bytes > ANSWER_BYTES && items.length > 0) return { items, next: cursor }
      items.push(record)
      cursor = recordCursor(query.order, record)
    }
    if (part.next === undefined || items.length >= page.size) return { items, next: part.next }
  }
}

/**
 * The records of `ids` that exist, in that order. NOT_FOUND for the collection, LIMIT_EXCEEDED where they weigh more than
 * {@link ANSWER_BYTES}.
 */
export async function getRecords(
  store: MemoryStore,
  scope: CallScope,
  collectionId: string,
  ids: readonly string[],
  parts: RecordParts,
): Promise<readonly MemoryRecord[]> {
  const collection = await store.getCollection(scope, collectionId)
  const times = new Map<string, number>()
  const budget = new AnswerBudget("ids", "ask for fewer, or for RECORD_VIEW_ID")
  for (const id of ids) {
    times.set(id, (times.get(id) ?? 0) + 1)
    budget.take(frameBytes(id))
  }
  const records = await loadRecords(store, scope, collection, times, parts, budget)
  return ids.flatMap((id) => records.get(id) ?? [])
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
