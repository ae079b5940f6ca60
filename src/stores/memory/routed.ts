/** The Memory port over a registry in SQL and a vector store: each collection's records go where its storage mode says. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Operations } from "../../domain/kernel/operations.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { DirectLedger } from "../../domain/memory/direct-ledger.ts"
import { isSameToSearch } from "../../domain/memory/known-collections.ts"
import type { MirrorSource } from "../../domain/memory/mirror.ts"
import type { Collection, StorageMode } from "../../domain/memory/model.ts"
import {
  type IndexStep,
  MEMORY_STORE_OPERATIONS,
  type MemoryCapabilities,
  type MemoryStore,
} from "../../domain/memory/ports.ts"
import type { VectorStore } from "../../domain/memory/vector-store.ts"
import { DirectRecords } from "./direct.ts"
import { MirroredSearch } from "./mirrored.ts"
import { SharedLooks } from "./shared-looks.ts"

/** The registry: a Memory store of its own that can tell of records elsewhere. */
export interface Registry extends MemoryStore {
  /** As deleteCollection, for a collection that has `elsewhere` records in another store. */
  deleteCollectionWith(
    scope: CallScope,
    id: string,
    ifRevisionMatch: bigint | undefined,
    elsewhere: number,
  ): Promise<number>
}

/** What the methods of {@link Registry} do. */
export const REGISTRY_OPERATIONS: Operations<Registry> = {
  ...MEMORY_STORE_OPERATIONS,
  deleteCollectionWith: "write",
}

/** What {@link createRoutedMemoryStore} works with. */
export interface RoutedOptions {
  readonly registry: Registry
  readonly vectors: VectorStore
  readonly ledger: DirectLedger
  readonly source: MirrorSource
  readonly clock: Clock
  /** For collections that leave the choice to the server. Default MIRRORED. */
  readonly standard?: StorageMode | undefined
}

/** The port; close it to end the groups of direct writes. */
export function createRoutedMemoryStore(options: RoutedOptions): MemoryStore & { close(): Promise<void> } {
  const { registry, vectors, source } = options
  const direct = new DirectRecords(options)
  const mirrored = new MirroredSearch({ records: registry, vectors, source })
  const looks = new SharedLooks((scope, id) => registry.getCollection(scope, id))
  const at = (collection: Collection): Pick<MemoryStore, "get" | "weigh" | "list" | "count"> =>
    collection.storageMode === "DIRECT" ? vectors : registry
  const search: MemoryStore["search"] = (scope, collection, queries) => {
    if (collection.storageMode === "DIRECT") return vectors.search(scope, collection, queries)
    if (collection.storageMode === "MIRRORED") return mirrored.search(scope, collection, queries)
    return registry.search(scope, collection, queries)
  }
  return {
    capabilities: {
      ...registry.capabilities,
      storage: {
        standard: options.standard ?? "MIRRORED",
        modes: modesOf(registry.capabilities, vectors.capabilities),
      },
    },
    createCollection: async (scope, draft) => shown(await registry.createCollection(scope, draft)),
    getCollection: async (scope, id) => shown(await registry.getCollection(scope, id)),
    listCollections: async (scope, page, filter) => {
      const { items, next } = await registry.listCollections(scope, page, filter)
      return { items: items.map(shown), next }
    },
    updateCollection: async (scope, id, patch, ifRevisionMatch) =>
      shown(await registry.updateCollection(scope, id, patch, ifRevisionMatch)),
    deleteCollection: async (scope, id, ifRevisionMatch) => {
      const found = await unlessGone(registry.getCollection(scope, id))
      const elsewhere = found?.storageMode === "DIRECT" ? await vectors.count(scope, found, undefined) : 0
      // The registry owes the rest to the outbox: the handle is never used again, so nobody sees what is not removed yet.
      return registry.deleteCollectionWith(scope, id, ifRevisionMatch, elsewhere)
    },
    upsert: (scope, collection, records) =>
      collection.storageMode === "DIRECT"
        ? direct.upsert(scope, collection, records)
        : registry.upsert(scope, collection, records),
    replayUpsert: (scope, otherwise) => registry.replayUpsert(scope, otherwise),
    get: (scope, collection, ...rest) => at(collection).get(scope, collection, ...rest),
    weigh: (scope, collection, ...rest) => at(collection).weigh(scope, collection, ...rest),
    list: (scope, collection, query) => at(collection).list(scope, collection, query),
    count: (scope, collection, filter) => at(collection).count(scope, collection, filter),
    delete: async (scope, collectionId, selection) => {
      const found = await unlessGone(registry.getCollection(scope, collectionId))
      return found?.storageMode === "DIRECT"
        ? direct.delete(scope, found, selection)
        : registry.delete(scope, collectionId, selection)
    },
    search,
    searchKnown: async (scope, collection, queries) => {
      if (collection.storageMode === "LOCAL") return registry.searchKnown(scope, collection, queries)
      // Both stores are asked at the same time.
      const answers = search(scope, collection, queries)
      answers.catch(() => {})
      const now = shown(await looks.take(scope, collection.id))
      return { collection: now, answers: isSameToSearch(now, collection) ? await answers : undefined }
    },
    indexBacklog: (scope) => registry.indexBacklog(scope),
    indexStep: async (scope, id, batch, force) => {
      const found = await registry.getCollection(scope, id)
      return found.storageMode === "DIRECT"
        ? indexedElsewhere(found)
        : registry.indexStep(scope, id, batch, force)
    },
    dropIndex: async (scope, id) => {
      const found = await registry.getCollection(scope, id)
      if (found.storageMode !== "DIRECT") await registry.dropIndex(scope, id)
    },
    sweep: async (scope, limit) => {
      const swept = await registry.sweep(scope, limit)
      return swept >= limit ? swept : swept + (await sweepElsewhere(vectors, scope, limit - swept))
    },
    close: () => direct.close(),
  }
}

/** The vector store keeps the indexes of its own collections. */
function shown(collection: Collection): Collection {
  if (collection.storageMode !== "DIRECT") return collection
  return { ...collection, indexState: indexedElsewhere(collection).state }
}

function indexedElsewhere({ index }: Collection): IndexStep {
  return { state: index.kind === "FLAT" ? "EXACT" : "READY", moved: 0, done: true }
}

/** Expired records are seen by nobody, so that they may wait until the vector store is back. */
async function sweepElsewhere(vectors: VectorStore, scope: CallScope, limit: number): Promise<number> {
  try {
    return await vectors.sweep(scope, limit)
  } catch (error) {
    if (error instanceof DomainError && error.reason === "STORE_UNAVAILABLE") return 0
    throw error
  }
}

function modesOf(sql: MemoryCapabilities, vectors: MemoryCapabilities) {
  return {
    LOCAL: sql,
    MIRRORED: {
      ...sql,
      engine: `${sql.engine} and ${vectors.engine}`,
      metrics: sql.metrics.filter((metric) => vectors.metrics.includes(metric)),
      indexes: sql.indexes.filter((index) => vectors.indexes.includes(index)),
      maxDimension: Math.min(sql.maxDimension, vectors.maxDimension),
    },
    DIRECT: vectors,
  } as const
}

/** The registry itself says that a collection is gone, or answers a repeated request. */
async function unlessGone(read: Promise<Collection>): Promise<Collection | undefined> {
  try {
    return await read
  } catch (error) {
    if (error instanceof DomainError && error.reason === "NOT_FOUND") return undefined
    throw error
  }
}
