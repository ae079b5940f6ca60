/** Makes a collection: fills in what follows from the embedder and refuses what the engine cannot do. */
import { DomainError, invalidField } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Collection, CollectionDraft, StorageMode } from "./model.ts"
import type { Embedders, MemoryCapabilities, MemoryStore } from "./ports.ts"
import { checkText } from "./text.ts"

const COLLECTION_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/

/**
 * Makes the collection. Its dimension may be 0 with an embedder, whose dimension it then takes. INVALID_FIELD,
 * UNSUPPORTED_BY_ENGINE, ALREADY_EXISTS.
 */
export async function createCollection(
  deps: { readonly store: MemoryStore; readonly embedders: Embedders },
  scope: CallScope,
  draft: CollectionDraft,
): Promise<Collection> {
  if (!COLLECTION_ID.test(draft.id)) {
    throw invalidField("collection.id", "must be 1 to 128 letters, digits, dots, underscores or hyphens")
  }
  checkText(draft.description, "collection.description")
  for (const [key, value] of Object.entries(draft.labels)) {
    checkText(key, "collection.labels")
    checkText(value, "collection.labels")
  }
  const dimension = dimensionOf(draft, deps.embedders)
  const complete = { ...draft, dimension, index: completeIndex(draft) }
  const storageMode = modeOf(complete, deps.store.capabilities)
  return deps.store.createCollection(scope, { ...complete, storageMode })
}

function dimensionOf(draft: CollectionDraft, embedders: Embedders): number {
  if (draft.embedder === "") {
    if (draft.dimension > 0) return draft.dimension
    throw invalidField("collection.dimension", "is required without an embedder")
  }
  const embedder = embedders.get(draft.embedder)
  if (embedder === undefined) {
    throw invalidField("collection.embedder", `must be one of ${[...embedders.keys()].join(", ")}`)
  }
  if (draft.dimension !== 0 && draft.dimension !== embedder.dimension) {
    throw invalidField("collection.dimension", `the embedder's dimension is ${embedder.dimension}`)
  }
  return embedder.dimension
}

const DEFAULT_M = 16
const DEFAULT_EF_CONSTRUCTION = 64

function completeIndex({ index }: CollectionDraft): CollectionDraft["index"] {
  if (index.kind !== "HNSW") return index
  const m = index.m === 0 ? DEFAULT_M : index.m
  const efConstruction =
    index.efConstruction === 0 ? Math.max(DEFAULT_EF_CONSTRUCTION, 2 * m) : index.efConstruction
  if (efConstruction < 2 * m) {
    throw invalidField("collection.hnsw.ef_construction", `must be at least twice m, which is ${m}`)
  }
  return { kind: "HNSW", m, efConstruction }
}

/** The mode asked for, or the standard one where it can do what is asked for, or LOCAL. */
function modeOf(draft: CollectionDraft, can: MemoryCapabilities): StorageMode {
  const { storage } = can
  const asked = draft.storageMode ?? storage?.standard ?? "LOCAL"
  const capable = storage?.modes[asked] ?? (asked === "LOCAL" ? can : undefined)
  if (
    draft.storageMode === undefined &&
    asked !== "LOCAL" &&
    !(capable !== undefined && fits(draft, capable))
  ) {
    checkCapabilities(draft, can)
    return "LOCAL"
  }
  if (capable === undefined) throw unsupported(can, `storage mode ${asked} without a vector store`)
  checkCapabilities(draft, capable)
  return asked
}

function fits(draft: CollectionDraft, can: MemoryCapabilities): boolean {
  try {
    checkCapabilities(draft, can)
    return true
  } catch (error) {
    if (error instanceof DomainError && error.reason === "UNSUPPORTED_BY_ENGINE") return false
    throw error
  }
}

function checkCapabilities(draft: CollectionDraft, can: MemoryCapabilities): void {
  if (!can.metrics.includes(draft.metric)) throw unsupported(can, `metric ${draft.metric}`)
  if (!can.quantizations.includes(draft.quantization)) {
    throw unsupported(can, `quantization ${draft.quantization}`)
  }
  if (draft.dimension > can.maxDimension) throw unsupported(can, `dimension over ${can.maxDimension}`)
  const { kind } = draft.index
  if (kind !== "HNSW" && kind !== "IVF_FLAT") return
  if (!can.indexes.includes(kind)) throw unsupported(can, `index ${kind}`)
  if (kind === "IVF_FLAT" && draft.metric === "L1") throw unsupported(can, "index IVF_FLAT with metric L1")
  const most = can.maxIndexDimension(draft.quantization)
  if (draft.dimension > most) throw unsupported(can, `index ${kind} with dimension over ${most}`)
}

function unsupported(can: MemoryCapabilities, capability: string): DomainError {
  return new DomainError("UNSUPPORTED_BY_ENGINE", `${can.engine} does not support ${capability}`, {
    metadata: { engine: can.engine, capability },
  })
}
