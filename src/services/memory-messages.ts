/** The Memory plane between the proto and the domain. */
import { endianness } from "node:os"
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { durationFromMs, durationMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt"
import { invalidField } from "../domain/kernel/errors.ts"
import type { JsonObject } from "../domain/kernel/json.ts"
import {
  ALL_PARTS,
  type Collection,
  type CollectionDraft,
  type CollectionPatch,
  ID_ONLY,
  type IndexSpec,
  type IndexState as IndexStateName,
  type MemoryRecord,
  type Metric as MetricName,
  type Quantization as QuantizationName,
  type RecordDraft,
  type RecordOrder,
  type RecordParts,
  type StorageMode as StorageModeName,
} from "../domain/memory/model.ts"
import {
  type CollectionSchema,
  IndexState,
  type MemoryRecordSchema,
  Metric,
  Quantization,
  type RecordInputSchema,
  RecordView,
  StorageMode,
  type UpdateCollectionRequest,
  type VectorSchema,
} from "../gen/keelplane/v1/memory_service_pb.ts"

const METRIC_OF: Readonly<Record<number, MetricName>> = {
  [Metric.UNSPECIFIED]: "COSINE",
  [Metric.COSINE]: "COSINE",
  [Metric.L2]: "L2",
  [Metric.INNER_PRODUCT]: "INNER_PRODUCT",
  [Metric.L1]: "L1",
}

const QUANTIZATION_OF: Readonly<Record<number, QuantizationName>> = {
  [Quantization.UNSPECIFIED]: "NONE",
  [Quantization.NONE]: "NONE",
  [Quantization.HALF]: "HALF",
  [Quantization.SCALAR]: "SCALAR",
}

const STORAGE_MODE_OF: Readonly<Record<number, StorageModeName>> = {
  [StorageMode.LOCAL]: "LOCAL",
  [StorageMode.MIRRORED]: "MIRRORED",
  [StorageMode.DIRECT]: "DIRECT",
}

const INDEX_STATE_TO: Readonly<Record<IndexStateName, IndexState>> = {
  EXACT: IndexState.EXACT,
  BUILDING: IndexState.BUILDING,
  READY: IndexState.READY,
}

/** For an enum's number that has no name. */
export function unknownName(field: string): never {
  throw invalidField(field, "is not one of the values that are defined")
}

/** The proto's index state. */
export function indexStateMessage(state: IndexStateName): IndexState {
  return INDEX_STATE_TO[state]
}

type CollectionMessage = MessageShape<typeof CollectionSchema>

/** The collection that a caller wants made. */
export function collectionDraft(message: CollectionMessage): CollectionDraft {
  return {
    id: message.id,
    description: message.description,
    labels: message.labels,
    dimension: message.dimension,
    metric: METRIC_OF[message.metric] ?? unknownName("collection.metric"),
    quantization: QUANTIZATION_OF[message.quantization] ?? unknownName("collection.quantization"),
    index: indexSpec(message.index),
    embedder: message.embedder,
    storageMode:
      message.storageMode === StorageMode.UNSPECIFIED
        ? undefined
        : (STORAGE_MODE_OF[message.storageMode] ?? unknownName("collection.storage_mode")),
    defaultTtlMs: message.defaultTtl === undefined ? undefined : wholeMs(durationMs(message.defaultTtl)),
  }
}

function indexSpec(index: CollectionMessage["index"]): IndexSpec {
  switch (index.case) {
    case "hnsw":
      return { kind: "HNSW", m: index.value.m, efConstruction: index.value.efConstruction }
    case "ivfFlat":
      return { kind: "IVF_FLAT", lists: index.value.lists }
    case "flat":
      return { kind: "FLAT" }
    default:
      return { kind: "AUTO" }
  }
}

function indexMessage(spec: IndexSpec): MessageInitShape<typeof CollectionSchema>["index"] {
  switch (spec.kind) {
    case "HNSW":
      return { case: "hnsw", value: { m: spec.m, efConstruction: spec.efConstruction } }
    case "IVF_FLAT":
      return { case: "ivfFlat", value: { lists: spec.lists } }
    case "FLAT":
      return { case: "flat", value: {} }
    default:
      return { case: "auto", value: {} }
  }
}

/** The proto's collection. */
export function collectionMessage(collection: Collection): MessageInitShape<typeof CollectionSchema> {
  return {
    id: collection.id,
    description: collection.description,
    labels: { ...collection.labels },
    dimension: collection.dimension,
    metric: Metric[collection.metric],
    quantization: Quantization[collection.quantization],
    index: indexMessage(collection.index),
    embedder: collection.embedder,
    storageMode: StorageMode[collection.storageMode],
    defaultTtl: collection.defaultTtlMs === undefined ? undefined : durationFromMs(collection.defaultTtlMs),
    revision: collection.revision,
    createTime: timestampFromMs(collection.createTimeMs),
    updateTime: timestampFromMs(collection.updateTimeMs),
    indexState: indexStateMessage(collection.indexState),
  }
}

const MUTABLE = ["description", "labels", "default_ttl"] as const

/** What an UpdateCollection request changes. Throws INVALID_FIELD. */
export function collectionPatch(request: UpdateCollectionRequest): CollectionPatch {
  const { collection } = request
  if (collection === undefined) throw invalidField("collection", "is required")
  const paths = new Set(request.updateMask?.paths ?? [])
  if (paths.size === 0) {
    if (collection.description !== "") paths.add("description")
    if (Object.keys(collection.labels).length > 0) paths.add("labels")
    if (collection.defaultTtl !== undefined) paths.add("default_ttl")
  }
  if (paths.delete("*")) for (const path of MUTABLE) paths.add(path)
  if (paths.size === 0) throw invalidField("update_mask", "names nothing to change and no field is set")
  const names: readonly string[] = MUTABLE
  for (const path of paths) {
    if (!names.includes(path)) throw invalidField("update_mask", `may name ${MUTABLE.join(", ")} or * only`)
  }
  const { defaultTtl } = collection
  const ttl = defaultTtl === undefined ? null : wholeMs(durationMs(defaultTtl))
  return {
    description: paths.has("description") ? collection.description : undefined,
    labels: paths.has("labels") ? collection.labels : undefined,
    defaultTtlMs: paths.has("default_ttl") ? ttl : undefined,
  }
}

/** Throws INVALID_FIELD where a request without a mask sets a pinned field to something else than the collection has. */
export function checkPinned(request: UpdateCollectionRequest, current: Collection): void {
  const { collection } = request
  if (collection === undefined) return
  const { dimension, metric, quantization, embedder, index, storageMode } = collection
  const same = {
    dimension: dimension === 0 || dimension === current.dimension,
    metric: metric === Metric.UNSPECIFIED || METRIC_OF[metric] === current.metric,
    quantization:
      quantization === Quantization.UNSPECIFIED || QUANTIZATION_OF[quantization] === current.quantization,
    embedder: embedder === "" || embedder === current.embedder,
    index: index.case === undefined || sameIndex(indexSpec(index), current.index),
    storage_mode:
      storageMode === StorageMode.UNSPECIFIED || STORAGE_MODE_OF[storageMode] === current.storageMode,
  }
  for (const [field, kept] of Object.entries(same)) {
    if (!kept) throw invalidField(`collection.${field}`, "is pinned: make another collection")
  }
}

/** Whether what is asked for is what there is; 0 leaves a number to the server. */
function sameIndex(asked: IndexSpec, present: IndexSpec): boolean {
  if (asked.kind === "HNSW" && present.kind === "HNSW") {
    const { m, efConstruction } = asked
    return (m === 0 || m === present.m) && (efConstruction === 0 || efConstruction === present.efConstruction)
  }
  if (asked.kind === "IVF_FLAT" && present.kind === "IVF_FLAT") {
    return asked.lists === 0 || asked.lists === present.lists
  }
  return asked.kind === present.kind
}

/** A duration in whole milliseconds, at least one. */
export function wholeMs(ms: number): number {
  return Math.max(1, Math.ceil(ms))
}

type VectorMessage = MessageShape<typeof VectorSchema>

const LITTLE_ENDIAN = endianness() === "LE"
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT

/** A vector's components. The packed form is not copied where it happens to lie on a float's boundary. */
export function vectorOf(message: VectorMessage, field: string): Float32Array {
  if (message.data.case === "values") return Float32Array.from(message.data.value.values)
  const bytes = message.data.value ?? new Uint8Array()
  if (bytes.byteLength === 0 || bytes.byteLength % FLOAT_BYTES !== 0) {
    throw invalidField(`${field}.packed`, "must have a multiple of 4 bytes, at least 4")
  }
  if (LITTLE_ENDIAN) {
    // Not slice(): grpc-js hands out Buffers, whose slice does not copy.
    const aligned = bytes.byteOffset % FLOAT_BYTES === 0 ? bytes : new Uint8Array(bytes)
    return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / FLOAT_BYTES)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: bytes.byteLength / FLOAT_BYTES }, (_, i) =>
    view.getFloat32(i * FLOAT_BYTES, true),
  )
}

function vectorMessage(vector: Float32Array): MessageInitShape<typeof VectorSchema> {
  if (LITTLE_ENDIAN) {
    const value = new Uint8Array(vector.byteLength)
    value.set(new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength))
    return { data: { case: "packed", value } }
  }
  const value = new Uint8Array(vector.byteLength)
  const view = new DataView(value.buffer)
  vector.forEach((component, i) => {
    view.setFloat32(i * FLOAT_BYTES, component, true)
  })
  return { data: { case: "packed", value } }
}

/** The record that a caller wants written. Throws INVALID_FIELD. */
export function recordDraft(message: MessageShape<typeof RecordInputSchema>, index: number): RecordDraft {
  const { expiration, vector } = message
  return {
    id: message.id,
    text: message.text,
    vector: vector === undefined ? undefined : vectorOf(vector, `records[${index}].vector`),
    // A Struct is JSON by definition.
    metadata: (message.metadata ?? {}) as JsonObject,
    expiration:
      expiration.case === "expireTime"
        ? { kind: "time", timeMs: timestampMs(expiration.value) }
        : expiration.case === "ttl"
          ? { kind: "ttl", ttlMs: wholeMs(durationMs(expiration.value)) }
          : undefined,
    ifRevisionMatch: message.ifRevisionMatch,
  }
}

/** The proto's record. */
export function recordMessage(record: MemoryRecord): MessageInitShape<typeof MemoryRecordSchema> {
  return {
    id: record.id,
    text: record.text ?? "",
    vector: record.vector === undefined ? undefined : vectorMessage(record.vector),
    metadata: record.metadata,
    revision: record.revision,
    createTime: timestampFromMs(record.createTimeMs),
    updateTime: timestampFromMs(record.updateTimeMs),
    expireTime: record.expireTimeMs === undefined ? undefined : timestampFromMs(record.expireTimeMs),
  }
}

/** The parts that a view stands for. */
export function partsOf(view: RecordView, otherwise: RecordView = RecordView.BASIC): RecordParts {
  switch (view === RecordView.UNSPECIFIED ? otherwise : view) {
    case RecordView.ID:
      return ID_ONLY
    case RecordView.METADATA:
      return { ...ID_ONLY, metadata: true }
    case RecordView.FULL:
      return ALL_PARTS
    default:
      return { ...ALL_PARTS, vector: false }
  }
}

const ORDER = /^(id|create_time|update_time)(?: +(asc|desc))?$/

/** The order that `order_by` asks for. Throws INVALID_FIELD. */
export function orderOf(orderBy: string): RecordOrder {
  const [, by, direction] = ORDER.exec(orderBy.trim() === "" ? "id" : orderBy.trim()) ?? []
  if (by === "id" || by === "create_time" || by === "update_time") {
    return { by, descending: direction === "desc" }
  }
  throw invalidField("order_by", "must be id, create_time or update_time, with desc after it or not")
}
