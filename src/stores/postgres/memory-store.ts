/** The Memory plane on PostgreSQL with pgvector, a server's or PGlite's. */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { MIRROR_TOPIC } from "../../domain/memory/mirror.ts"
import type { Collection, RecordReceipt, RecordWrite } from "../../domain/memory/model.ts"
import type { MemoryStore } from "../../domain/memory/ports.ts"
import type { OutboxSignals } from "../../domain/outbox/signals.ts"
import { GroupCommit } from "../group-commit.ts"
import type { Database } from "./database.ts"
import {
  createCollection,
  deleteCollection,
  getCollection,
  listCollections,
  updateCollection,
} from "./memory-collections.ts"
import {
  dropIndex,
  type Indexing,
  type IndexPolicy,
  indexBacklog,
  indexStep,
  maxIndexDimension,
} from "./memory-index.ts"
import type { Maintenance } from "./memory-index-build.ts"
import {
  countRecords,
  deleteRecords,
  getRecords,
  listRecords,
  sweepRecords,
  weighRecords,
} from "./memory-records.ts"
import { here } from "./memory-rows.ts"
import { searchKnown, searchRecords } from "./memory-search.ts"
import { isGroupable, type UpsertItem, upsertBytes, upsertChecked, upsertGroup } from "./memory-upsert.ts"

/** How the store behaves. */
export interface MemoryStoreOptions {
  readonly database: Database
  readonly clock: Clock
  /** Groups of writes that run at the same time: the engine's `capabilities.concurrency`, or less. */
  readonly concurrency: number
  /**
   * Records from which AUTO has an index. Default 10000. On PGlite 20000 is better: an exact search over so many takes some
   * 20 ms there, and each record that moves into an index costs 6 ms of the one connection.
   */
  readonly autoIndexThreshold?: number
  /** Records that may wait outside of a filled index before the background moves them in. Default 500. */
  readonly indexLag?: number
  /** The engine's `maintenance`: with it, indexes are built and dropped without holding up writers. */
  readonly maintenance?: Maintenance | undefined
  /** Hears of changes that are owed to a vector store. */
  readonly outbox?: OutboxSignals | undefined
  /** Most indexes in the database. Default 500. */
  readonly maxIndexes?: number
}

/** The port, and what collections need whose records are elsewhere. */
export interface SqlMemoryStore extends MemoryStore {
  /** As deleteCollection, for a collection that has `elsewhere` records in another store. */
  deleteCollectionWith(
    scope: CallScope,
    id: string,
    ifRevisionMatch: bigint | undefined,
    elsewhere: number,
  ): Promise<number>
  /** Ends the groups of writes. */
  close(): Promise<void>
}

const GROUP_RECORDS = 256
const GROUP_BYTES = 8 * 1024 * 1024
const MAX_DIMENSION = 16_000
const UPSERT = "memory.upsert"

/** The port over `options.database`, whose schema must be up to date. Close it before the database: it ends the groups of writes. */
export function createMemoryStore(options: MemoryStoreOptions): SqlMemoryStore {
  const { database, clock } = options
  const policy: IndexPolicy = {
    autoThreshold: options.autoIndexThreshold ?? 10_000,
    lag: options.indexLag ?? 500,
    maxIndexes: options.maxIndexes ?? 500,
  }
  const indexing: Indexing = { database, policy, maintenance: options.maintenance }
  const told = async <T>(change: Promise<T>): Promise<T> => {
    const result = await change
    options.outbox?.committed(MIRROR_TOPIC)
    return result
  }
  const group = new GroupCommit<UpsertItem, readonly RecordReceipt[]>({
    key: (scope) => scope.tenant,
    maxItems: GROUP_RECORDS,
    maxBytes: GROUP_BYTES,
    bytes: upsertBytes,
    concurrency: options.concurrency,
    run: (scope, items) => told(database.transaction(scope, (tx) => upsertGroup(tx, clock, items))),
  })
  const upsert = async (scope: CallScope, collection: Collection, records: readonly RecordWrite[]) => {
    const item = { collection: here(collection), records }
    return isGroupable(scope, records)
      ? group.add(scope, item)
      : told(database.mutate(scope, UPSERT, (tx) => upsertChecked(tx, clock, item)))
  }
  return {
    capabilities: {
      engine: "pgvector",
      metrics: ["COSINE", "L2", "INNER_PRODUCT", "L1"],
      quantizations: ["NONE", "HALF"],
      indexes: ["HNSW", "IVF_FLAT"],
      maxDimension: MAX_DIMENSION,
      maxIndexDimension,
    },
    createCollection: (scope, draft) => createCollection(database, clock, scope, draft),
    getCollection: (scope, id) => getCollection(database, scope, id),
    listCollections: (scope, page, filter) => listCollections(database, scope, page, filter),
    updateCollection: (scope, id, patch, ifRevisionMatch) =>
      updateCollection(database, clock, scope, id, patch, ifRevisionMatch),
    deleteCollection: (scope, id, ifRevisionMatch) =>
      told(
        deleteCollection(database, clock, scope, id, ifRevisionMatch, options.maintenance === undefined, 0),
      ),
    deleteCollectionWith: (scope, id, ifRevisionMatch, elsewhere) =>
      told(
        deleteCollection(
          database,
          clock,
          scope,
          id,
          ifRevisionMatch,
          options.maintenance === undefined,
          elsewhere,
        ),
      ),
    upsert,
    replayUpsert: (scope, otherwise) =>
      database.mutate<readonly RecordReceipt[]>(scope, UPSERT, () => Promise.reject(otherwise)),
    get: async (scope, collection, ids, parts) =>
      getRecords(database, clock, scope, here(collection), ids, parts),
    weigh: async (scope, collection, ids, parts) =>
      weighRecords(database, clock, scope, here(collection), ids, parts),
    list: async (scope, collection, query) => listRecords(database, clock, scope, here(collection), query),
    count: async (scope, collection, filter) =>
      countRecords(database, clock, scope, here(collection), filter),
    delete: (scope, collectionId, selection) =>
      told(deleteRecords(database, clock, scope, collectionId, selection)),
    search: async (scope, collection, queries) =>
      searchRecords(database, clock, scope, here(collection), queries),
    searchKnown: async (scope, collection, queries) =>
      searchKnown(database, clock, scope, here(collection), queries),
    indexBacklog: (scope) => indexBacklog(indexing, scope),
    indexStep: (scope, id, batch, force) => indexStep(indexing, scope, id, batch, force),
    dropIndex: (scope, id) => dropIndex(indexing, scope, id),
    close: () => group.close(),
    sweep: (scope, limit) => sweepRecords(database, clock, scope, limit),
  }
}
