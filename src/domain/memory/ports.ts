/** What the Memory plane needs from an engine and from an embedder. */
import type { FieldTable, Filter } from "../kernel/filter/index.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type {
  Collection,
  CollectionDraft,
  CollectionPatch,
  IndexState,
  MemoryRecord,
  Metric,
  Quantization,
  RecordOrder,
  RecordParts,
  RecordReceipt,
  RecordWrite,
  StorageMode,
} from "./model.ts"

/** Fields of a filter over records. */
export const RECORD_FIELDS: FieldTable = {
  id: { type: "string" },
  text: { type: "string" },
  create_time: { type: "timestamp" },
  update_time: { type: "timestamp" },
  expire_time: { type: "timestamp" },
  revision: { type: "int" },
  metadata: { type: "json" },
}

/** Fields of a filter over collections. */
export const COLLECTION_FIELDS: FieldTable = {
  id: { type: "string" },
  description: { type: "string" },
  labels: { type: "json" },
  embedder: { type: "string" },
  dimension: { type: "int" },
  create_time: { type: "timestamp" },
  update_time: { type: "timestamp" },
  revision: { type: "int" },
}

/** What an engine can do. */
export interface MemoryCapabilities {
  /** The engine's name in UNSUPPORTED_BY_ENGINE. */
  readonly engine: string
  readonly metrics: readonly Metric[]
  readonly quantizations: readonly Quantization[]
  readonly indexes: readonly ("HNSW" | "IVF_FLAT")[]
  /** Largest dimension that can be stored. */
  readonly maxDimension: number
  /** Largest dimension that can be indexed, by quantization. */
  maxIndexDimension(quantization: Quantization): number
  /** Where records may live besides {@link StorageMode} LOCAL; absent: nowhere. */
  readonly storage?: StorageChoice | undefined
}

/** The storage modes beyond LOCAL. */
export interface StorageChoice {
  /** For collections that leave the choice to the server, where it can do what they ask for. */
  readonly standard: StorageMode
  /** What collections of each mode may have. */
  readonly modes: Readonly<Partial<Record<StorageMode, MemoryCapabilities>>>
}

/** One search as an engine sees it: up to two ranked lists over the same filter. */
export interface EngineQuery {
  readonly filter: Filter | undefined
  /** Parts of the records to answer with. */
  readonly parts: RecordParts
  /** Parts to answer with besides, where the store knows that they weigh little and it saves a wait: see {@link EngineAnswer.complete}. */
  readonly partsIfLight?: RecordParts | undefined
  readonly dense:
    | {
        readonly vector: Float32Array
        readonly limit: number
        /** Skip the index. */
        readonly exact: boolean
        readonly efSearch: number
      }
    | undefined
  readonly keyword: { readonly text: string; readonly limit: number } | undefined
}

/** A record in a ranked list. */
export interface Candidate {
  readonly record: MemoryRecord
  /** Higher is better. */
  readonly score: number
}

/** The lists of one {@link EngineQuery}, best first, ties by id; empty where not asked for. */
export interface EngineAnswer {
  readonly dense: readonly Candidate[]
  readonly keyword: readonly Candidate[]
  /** Whether the records have what {@link EngineQuery.partsIfLight} asked for. */
  readonly complete?: boolean | undefined
  /** The store that is away, where a fallback answered in its place. */
  readonly degradedBy?: string | undefined
}

/** What {@link MemoryStore.searchKnown} answers. */
export interface KnownAnswers {
  /** As it is now. */
  readonly collection: Collection
  /** Undefined where the collection is no longer one that the search was for (`isSameToSearch`). */
  readonly answers: readonly EngineAnswer[] | undefined
}

/** One step of index work. */
export interface IndexStep {
  readonly state: IndexState
  /** Records that this step moved into the index. */
  readonly moved: number
  /** Nothing is left to do for the collection as it is now. */
  readonly done: boolean
}

/**
 * Collections and records in one engine. Every method sees only the scope's tenant and only records whose expiry has not
 * passed. Besides what each method names, all reject with DEADLINE_EXCEEDED or CANCELLED when the scope ends and with
 * STORE_UNAVAILABLE when the engine is away; mutations may reject with OUTCOME_UNKNOWN and, with `scope.idempotency`, answer
 * the first result when repeated, or REQUEST_ID_REUSED.
 */
export interface MemoryStore {
  readonly capabilities: MemoryCapabilities

  /** ALREADY_EXISTS. */
  createCollection(scope: CallScope, draft: CollectionDraft): Promise<Collection>
  /** NOT_FOUND. */
  getCollection(scope: CallScope, id: string): Promise<Collection>
  /** In byte order of ids. */
  listCollections(scope: CallScope, page: PageRequest, filter: Filter | undefined): Promise<Page<Collection>>
  /** NOT_FOUND, REVISION_MISMATCH. */
  updateCollection(
    scope: CallScope,
    id: string,
    patch: CollectionPatch,
    ifRevisionMatch: bigint | undefined,
  ): Promise<Collection>
  /** Removes records and index too and answers how many records there were. NOT_FOUND, REVISION_MISMATCH. */
  deleteCollection(scope: CallScope, id: string, ifRevisionMatch: bigint | undefined): Promise<number>

  /**
   * Writes all records or none; receipts in order. No id comes twice. NOT_FOUND when the collection is gone,
   * REVISION_MISMATCH naming the record.
   */
  upsert(
    scope: CallScope,
    collection: Collection,
    records: readonly RecordWrite[],
  ): Promise<readonly RecordReceipt[]>
  /** The receipts of the upsert that `scope.idempotency` repeats; rejects with `otherwise` when there was none. */
  replayUpsert(scope: CallScope, otherwise: unknown): Promise<readonly RecordReceipt[]>
  /** In the order of `ids`, without those that do not exist. */
  get(
    scope: CallScope,
    collection: Collection,
    ids: readonly string[],
    parts: RecordParts,
  ): Promise<readonly MemoryRecord[]>
  /**
   * About how many bytes `parts` of each record take in an answer, rather too few than too many, found without reading them:
   * in no order, without those that do not exist.
   */
  weigh(
    scope: CallScope,
    collection: Collection,
    ids: readonly string[],
    parts: RecordParts,
  ): Promise<ReadonlyMap<string, number>>
  /** One page in the given order; a cursor stays good while records come and go. */
  list(
    scope: CallScope,
    collection: Collection,
    query: {
      readonly filter: Filter | undefined
      readonly order: RecordOrder
      readonly parts: RecordParts
      readonly page: PageRequest
    },
  ): Promise<Page<MemoryRecord>>
  /** Exact. */
  count(scope: CallScope, collection: Collection, filter: Filter | undefined): Promise<number>
  /** Deletes what `selection` names and answers how many there were. NOT_FOUND for the collection. */
  delete(
    scope: CallScope,
    collectionId: string,
    selection: { readonly ids: readonly string[] } | { readonly filter: Filter },
  ): Promise<number>

  /** Answers all queries in order, each with as many candidates as exist up to its limits. */
  search(
    scope: CallScope,
    collection: Collection,
    queries: readonly EngineQuery[],
  ): Promise<readonly EngineAnswer[]>
  /**
   * As search, for a collection of which it is only known how it was before; answers also how it is now. NOT_FOUND when it is gone. One wait in
   * place of two: see ./known-collections.
   */
  searchKnown(
    scope: CallScope,
    collection: Collection,
    queries: readonly EngineQuery[],
  ): Promise<KnownAnswers>

  /** Collections of all tenants whose index may have work to do, for the daemon's own scope. */
  indexBacklog(scope: CallScope): Promise<readonly { readonly tenant: string; readonly id: string }[]>
  /**
   * Moves at most `batch` records into the collection's index, making it first when the collection should have one; a short
   * step that other calls can go between. `force` ignores the size from which AUTO has an index. NOT_FOUND.
   */
  indexStep(scope: CallScope, collectionId: string, batch: number, force: boolean): Promise<IndexStep>
  /** Drops the collection's index, so that steps build it anew. Searches are exact meanwhile. NOT_FOUND. */
  dropIndex(scope: CallScope, collectionId: string): Promise<void>
  /** Deletes at most `limit` records whose expiry has passed, of the scope's tenant or of all for the daemon's own scope. */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** Makes vectors from texts. */
export interface Embedder {
  /** What collections call it. */
  readonly name: string
  /** Components of its vectors. */
  readonly dimension: number
  /**
   * One vector per text, in order. Rejects with STORE_UNAVAILABLE or OVERLOADED (store `embedder:<name>`) when it is away,
   * STORE_AUTH when it refuses the key, DEADLINE_EXCEEDED or CANCELLED when the scope ends, and never quotes a text.
   */
  embed(scope: CallScope, texts: readonly string[]): Promise<readonly Float32Array[]>
}

/** The configured embedders by name. */
export type Embedders = ReadonlyMap<string, Embedder>

/** What the methods of {@link MemoryStore} do. */
export const MEMORY_STORE_OPERATIONS: Operations<MemoryStore> = {
  createCollection: "write",
  updateCollection: "write",
  deleteCollection: "write",
  upsert: "write",
  delete: "write",
  indexStep: "write",
  dropIndex: "write",
  sweep: "write",
  getCollection: "read",
  listCollections: "read",
  replayUpsert: "read",
  get: "read",
  weigh: "read",
  list: "read",
  count: "read",
  search: "read",
  searchKnown: "read",
  indexBacklog: "read",
}
