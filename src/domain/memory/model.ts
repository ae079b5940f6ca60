/** What the Memory plane keeps: collections of records with a vector each. Times are milliseconds since the epoch. */
import type { JsonObject } from "../kernel/json.ts"

/** How closeness is measured; see {@link scoreOf} for the score of each. */
export type Metric = "COSINE" | "L2" | "INNER_PRODUCT" | "L1"

/** How vectors are stored: 32-bit floats, 16-bit floats, 8-bit integers. */
export type Quantization = "NONE" | "HALF" | "SCALAR"

/** Which index a collection is to have. */
export type IndexSpec =
  | { readonly kind: "AUTO" }
  | { readonly kind: "HNSW"; readonly m: number; readonly efConstruction: number }
  /** `lists` 0: chosen from the number of records when the index is built. */
  | { readonly kind: "IVF_FLAT"; readonly lists: number }
  | { readonly kind: "FLAT" }

/**
 * Where the records of a collection live. LOCAL: where its registry is. MIRRORED: there, with a copy in the vector store that
 * searches use. DIRECT: in the vector store alone.
 */
export type StorageMode = "LOCAL" | "MIRRORED" | "DIRECT"

/** EXACT: no index (yet). BUILDING: some records are in it. READY: all but the newest few. */
export type IndexState = "EXACT" | "BUILDING" | "READY"

/** What is pinned when a collection is made. */
export interface CollectionDraft {
  readonly id: string
  readonly description: string
  readonly labels: Readonly<Record<string, string>>
  readonly dimension: number
  readonly metric: Metric
  readonly quantization: Quantization
  readonly index: IndexSpec
  /** Name of an embedder, or empty. */
  readonly embedder: string
  readonly defaultTtlMs: number | undefined
  /** Undefined: the server chooses. */
  readonly storageMode?: StorageMode | undefined
}

/** A collection as it is stored. */
export interface Collection extends CollectionDraft {
  readonly storageMode: StorageMode
  /** The engine's own handle; another one when a deleted collection is made again under the same id. */
  readonly ref: string
  readonly revision: bigint
  readonly createTimeMs: number
  readonly updateTimeMs: number
  readonly indexState: IndexState
}

/** New values for what may change; an absent one stays. `defaultTtlMs: null` removes it. */
export interface CollectionPatch {
  readonly description?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly defaultTtlMs?: number | null | undefined
}

/** A record as a caller sends it. */
export interface RecordDraft {
  /** Empty: one is generated. */
  readonly id: string
  readonly text: string
  readonly vector: Float32Array | undefined
  readonly metadata: JsonObject
  readonly expiration:
    | { readonly kind: "time"; readonly timeMs: number }
    | { readonly kind: "ttl"; readonly ttlMs: number }
    | undefined
  /** The revision the record must have; 0: it must not exist. */
  readonly ifRevisionMatch: bigint | undefined
}

/** A record ready to be stored: checked, embedded, with its id and expiry. */
export interface RecordWrite {
  readonly id: string
  readonly text: string
  readonly vector: Float32Array
  readonly metadata: JsonObject
  readonly expireTimeMs: number | undefined
  readonly ifRevisionMatch: bigint | undefined
}

/** What became of one written record. */
export interface RecordReceipt {
  readonly id: string
  readonly revision: bigint
  /** No live record had this id before. */
  readonly created: boolean
}

/** Which parts of a record an answer holds. */
export interface RecordParts {
  readonly text: boolean
  readonly metadata: boolean
  readonly vector: boolean
}

/** Id, revision and times only. */
export const ID_ONLY: RecordParts = { text: false, metadata: false, vector: false }
/** Everything. */
export const ALL_PARTS: RecordParts = { text: true, metadata: true, vector: true }

/** A stored record; parts that were not asked for are undefined. */
export interface MemoryRecord {
  readonly id: string
  readonly text: string | undefined
  readonly metadata: JsonObject | undefined
  readonly vector: Float32Array | undefined
  readonly revision: bigint
  readonly createTimeMs: number
  readonly updateTimeMs: number
  readonly expireTimeMs: number | undefined
}

/** How records are listed; ties are broken by id in the same direction. */
export interface RecordOrder {
  readonly by: "id" | "create_time" | "update_time"
  readonly descending: boolean
}

/** The score of a distance as engines measure it: cosine distance, Euclidean, negated inner product, Manhattan. */
export function scoreOf(metric: Metric, distance: number): number {
  switch (metric) {
    case "COSINE":
      return Math.min(1, Math.max(-1, 1 - distance))
    case "INNER_PRODUCT":
      return -distance
    default:
      return 1 / (1 + distance)
  }
}

/** The cursor that goes on after `record`, as {@link MemoryStore.list} takes it. */
export function recordCursor(order: RecordOrder, record: MemoryRecord): readonly string[] {
  if (order.by === "id") return [record.id]
  return [record.id, String(order.by === "create_time" ? record.createTimeMs : record.updateTimeMs)]
}
