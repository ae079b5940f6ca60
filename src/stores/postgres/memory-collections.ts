/** Collections of the Memory plane in SQL. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { alreadyExists, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { Filter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { mirrorDrop } from "../../domain/memory/mirror.ts"
import type { Collection, CollectionDraft, CollectionPatch } from "../../domain/memory/model.ts"
import type { Database, Tx } from "./database.ts"
import { filterSql } from "./filter-sql.ts"
import {
  COLLECTION_COLUMNS,
  COLLECTION_FILTER_COLUMNS,
  type CollectionRow,
  toCollection,
} from "./memory-rows.ts"
import { appendOutbox } from "./outbox-append.ts"

/** See {@link MemoryStore.createCollection}. */
export function createCollection(
  database: Database,
  clock: Clock,
  scope: CallScope,
  draft: CollectionDraft,
): Promise<Collection> {
  return database.mutate(scope, "memory.createCollection", async (tx) => {
    const { rows } = await tx.query<CollectionRow>({
      text: `insert into memory_collections (tenant, id, description, labels, dimension, metric, quantization, index_spec,
          embedder, default_ttl_ms, storage_mode, revision, create_time, update_time)
        values ($1, $2, $3, $4::jsonb, $5, $6, $7, $8::jsonb, $9, $10, $11, nextval('memory_revision'), $12, $12)
        on conflict (tenant, id) do nothing returning ${COLLECTION_COLUMNS}`,
      values: [
        scope.tenant,
        draft.id,
        draft.description,
        JSON.stringify(draft.labels),
        draft.dimension,
        draft.metric,
        draft.quantization,
        JSON.stringify(draft.index),
        draft.embedder,
        draft.defaultTtlMs,
        draft.storageMode ?? "LOCAL",
        new Date(clock.now()),
      ],
    })
    const [row] = rows
    if (row === undefined) throw alreadyExists("collection", draft.id)
    return toCollection(row)
  })
}

/** See {@link MemoryStore.getCollection}. */
export async function getCollection(database: Database, scope: CallScope, id: string): Promise<Collection> {
  const { rows } = await database.query<CollectionRow>(scope, {
    name: "memory_get_collection",
    text: `select ${COLLECTION_COLUMNS} from memory_collections where tenant = $1 and id = $2`,
    values: [scope.tenant, id],
  })
  const [row] = rows
  if (row === undefined) throw notFound("collection", id)
  return toCollection(row)
}

/** See {@link MemoryStore.listCollections}. */
export async function listCollections(
  database: Database,
  scope: CallScope,
  page: PageRequest,
  filter: Filter | undefined,
): Promise<Page<Collection>> {
  const values: unknown[] = [scope.tenant, page.cursor?.[0] ?? "", page.size + 1]
  const condition = filter === undefined ? "true" : filterSql(filter, COLLECTION_FILTER_COLUMNS, values)
  const { rows } = await database.query<CollectionRow>(scope, {
    text: `select ${COLLECTION_COLUMNS} from memory_collections
      where tenant = $1 and id > $2 and ${condition} order by id limit $3`,
    values,
  })
  const items = rows.slice(0, page.size).map(toCollection)
  const last = items.at(-1)
  return { items, next: rows.length > page.size && last !== undefined ? [last.id] : undefined }
}

/** See {@link MemoryStore.updateCollection}. */
export function updateCollection(
  database: Database,
  clock: Clock,
  scope: CallScope,
  id: string,
  patch: CollectionPatch,
  ifRevisionMatch: bigint | undefined,
): Promise<Collection> {
  return database.mutate(scope, "memory.updateCollection", async (tx) => {
    await lockCollection(tx, id, ifRevisionMatch)
    const keep = patch.defaultTtlMs === undefined
    const { rows } = await tx.query<CollectionRow>({
      text: `update memory_collections set description = coalesce($3, description), labels = coalesce($4::jsonb, labels),
          default_ttl_ms = case when $5 then default_ttl_ms else $6::bigint end,
          revision = nextval('memory_revision'), update_time = $7
        where tenant = $1 and id = $2 returning ${COLLECTION_COLUMNS}`,
      values: [
        scope.tenant,
        id,
        patch.description,
        patch.labels === undefined ? null : JSON.stringify(patch.labels),
        keep,
        patch.defaultTtlMs,
        new Date(clock.now()),
      ],
    })
    const [row] = rows
    if (row === undefined) throw notFound("collection", id)
    return toCollection(row)
  })
}

/** See {@link MemoryStore.deleteCollection}. `elsewhere`: how many records it has in another store. */
export function deleteCollection(
  database: Database,
  clock: Clock,
  scope: CallScope,
  id: string,
  ifRevisionMatch: bigint | undefined,
  dropsIndex: boolean,
  elsewhere: number,
): Promise<number> {
  return database.mutate(scope, "memory.deleteCollection", async (tx) => {
    const row = await lockCollection(tx, id, ifRevisionMatch)
    if (row.storage_mode !== "LOCAL") appendOutbox(tx, [mirrorDrop(scope.tenant, toCollection(row))])
    const counted = await tx.query<{ count: bigint }>({
      text: `select count(*) as count from memory_records r where r.tenant = $1 and r.collection_key = $2
        and (r.expire_time is null or r.expire_time > $3::timestamptz)`,
      values: [scope.tenant, row.key, new Date(clock.now())],
    })
    // Where others use the table at the same time, this would wait for all of them and hold up all that come after; the
    // background removes an index without a collection.
    if (row.index_kind !== null && dropsIndex) {
      await tx.query({ text: "select memory_drop_index($1)", values: [row.key] })
    }
    // The records go with it: the foreign key cascades.
    await tx.query({
      text: "delete from memory_collections where tenant = $1 and id = $2",
      values: [scope.tenant, id],
    })
    return Number(counted.rows[0]?.count ?? 0n) + elsewhere
  })
}

/** The collection's row, locked against other changes of it, though not against writes of records. NOT_FOUND, REVISION_MISMATCH. */
export async function lockCollection(
  tx: Tx,
  id: string,
  ifRevisionMatch: bigint | undefined,
): Promise<CollectionRow> {
  const { rows } = await tx.query<CollectionRow>({
    text: `select ${COLLECTION_COLUMNS} from memory_collections where tenant = $1 and id = $2 for no key update`,
    values: [tx.scope.tenant, id],
  })
  const [row] = rows
  if (row === undefined) throw notFound("collection", id)
  if (ifRevisionMatch !== undefined && row.revision !== ifRevisionMatch) {
    throw revisionMismatch("collection", id, ifRevisionMatch, row.revision)
  }
  return row
}
