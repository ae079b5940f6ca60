/** Rows of the Memory plane's tables as the domain's types. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { Collection, IndexSpec, MemoryRecord, RecordParts } from "../../domain/memory/model.ts"
import type { FilterColumns } from "./filter-sql.ts"

/** A row of memory_collections. */
export interface CollectionRow {
  readonly id: string
  readonly key: bigint
  readonly description: string
  readonly labels: Record<string, string>
  readonly dimension: number
  readonly metric: Collection["metric"]
  readonly quantization: Collection["quantization"]
  readonly index_spec: IndexSpec
  readonly index_kind: "HNSW" | "IVF_FLAT" | null
  readonly index_state: Collection["indexState"]
  readonly embedder: string
  readonly storage_mode: Collection["storageMode"]
  readonly default_ttl_ms: bigint | null
  readonly revision: bigint
  readonly create_time: Date
  readonly update_time: Date
}

/** The columns of {@link CollectionRow}. */
export const COLLECTION_COLUMNS =
  "id, key, description, labels, dimension, metric, quantization, index_spec, index_kind, index_state, embedder, storage_mode, default_ttl_ms, revision, create_time, update_time"

/** The domain's collection. */
export function toCollection(row: CollectionRow): Collection {
  return {
    id: row.id,
    ref: row.key.toString(),
    description: row.description,
    labels: row.labels,
    dimension: row.dimension,
    metric: row.metric,
    quantization: row.quantization,
    index: row.index_spec,
    indexState: row.index_state,
    embedder: row.embedder,
    storageMode: row.storage_mode,
    defaultTtlMs: row.default_ttl_ms === null ? undefined : Number(row.default_ttl_ms),
    revision: row.revision,
    createTimeMs: row.create_time.getTime(),
    updateTimeMs: row.update_time.getTime(),
  }
}

/** A collection whose records could be here. Those of the others are where the vector store was that the daemon no longer has. */
export function here<C extends Pick<Collection, "id" | "storageMode">>(collection: C): C {
  if (collection.storageMode !== "DIRECT") return collection
  throw new DomainError(
    "FAILED_PRECONDITION",
    `the records of collection "${collection.id}" are in a vector store, and none is configured; set stores.vectors.url`,
    { metadata: { resource: "collection", name: collection.id, state: "vector-store-missing" } },
  )
}

/** Where the fields of a collection filter live. */
export const COLLECTION_FILTER_COLUMNS: FilterColumns = {
  id: { sql: "id" },
  description: { sql: "description" },
  labels: { sql: "labels" },
  embedder: { sql: "embedder" },
  dimension: { sql: "dimension" },
  create_time: { sql: "create_time" },
  update_time: { sql: "update_time" },
  revision: { sql: "revision" },
}

/** Where the fields of a record filter live, in memory_records as `r`. */
export const RECORD_FILTER_COLUMNS: FilterColumns = {
  id: { sql: "r.id" },
  text: { sql: "r.body" },
  create_time: { sql: "r.create_time" },
  update_time: { sql: "r.update_time" },
  expire_time: { sql: "r.expire_time" },
  revision: { sql: "r.revision" },
  metadata: { sql: "r.metadata" },
}

/** A row of memory_records with the parts that were asked for. */
export interface RecordRow {
  readonly id: string
  readonly revision: bigint
  readonly create_time: Date
  readonly update_time: Date
  readonly expire_time: Date | null
  readonly body?: string
  readonly metadata?: JsonObject
  readonly vector?: Buffer
}

/** The select list of {@link RecordRow} over memory_records as `r`. */
export function recordColumns(parts: RecordParts): string {
  // The binary form of a vector is exact and a third of its text.
  const vector = ", vector_send(coalesce(r.embedding, r.embedding_half::vector)) as vector"
  return `r.id, r.revision, r.create_time, r.update_time, r.expire_time${parts.text ? ", r.body" : ""}${
    parts.metadata ? ", r.metadata" : ""
  }${parts.vector ? vector : ""}`
}

/** The domain's record. */
export function toRecord(row: RecordRow): MemoryRecord {
  return {
    id: row.id,
    text: row.body,
    metadata: row.metadata,
    vector: row.vector === undefined ? undefined : fromBinary(row.vector),
    revision: row.revision,
    createTimeMs: row.create_time.getTime(),
    updateTimeMs: row.update_time.getTime(),
    expireTimeMs: row.expire_time?.getTime(),
  }
}

/** pgvector's binary form: int16 dimension, int16 unused, then big-endian floats. */
const HEADER_BYTES = 4

function fromBinary(bytes: Buffer): Float32Array {
  const vector = new Float32Array((bytes.length - HEADER_BYTES) / Float32Array.BYTES_PER_ELEMENT)
  for (let i = 0; i < vector.length; i++) vector[i] = bytes.readFloatBE(HEADER_BYTES + i * 4)
  return vector
}

/** A vector in pgvector's binary form, as a parameter: a fifth of its text, and nothing to parse. */
export function vectorParameter(vector: Float32Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + vector.length * FLOAT_BYTES)
  bytes.writeUInt16BE(vector.length, 0)
  bytes.writeUInt16BE(0, 2)
  let at = HEADER_BYTES
  for (let i = 0; i < vector.length; i++) at = bytes.writeFloatBE(vector[i] ?? 0, at)
  return bytes
}

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT
const ARRAY_HEADER_BYTES = 20
const FLOAT4_OID = 700

/** All components of some vectors, one after the other, as a real[] parameter in binary form. */
export function componentsParameter(vectors: readonly Float32Array[]): Buffer {
  const count = vectors.reduce((sum, vector) => sum + vector.length, 0)
  const bytes = Buffer.allocUnsafe(ARRAY_HEADER_BYTES + count * 2 * FLOAT_BYTES)
  let at = 0
  // One dimension, no nulls, the element type, how many, counted from 1.
  for (const field of [1, 0, FLOAT4_OID, count, 1]) at = bytes.writeInt32BE(field, at)
  for (const vector of vectors) {
    for (let i = 0; i < vector.length; i++) {
      at = bytes.writeInt32BE(FLOAT_BYTES, at)
      at = bytes.writeFloatBE(vector[i] ?? 0, at)
    }
  }
  return bytes
}

/** The condition that a record's expiry has not passed at the time in parameter `n`. */
export function isLive(n: number): string {
  return `(r.expire_time is null or r.expire_time > $${n}::timestamptz)`
}
