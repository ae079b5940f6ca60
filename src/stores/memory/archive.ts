/** The archive of the Memory plane where a vector store stands beside the registry. */
import type { Item, ItemOf } from "../../domain/archive/model.ts"
import type { Archive } from "../../domain/archive/ports.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { MirrorSource } from "../../domain/memory/mirror.ts"
import { ALL_PARTS, type Collection, type MemoryRecord } from "../../domain/memory/model.ts"
import type { MemoryStore } from "../../domain/memory/ports.ts"
import type { VectorRecord, VectorStore } from "../../domain/memory/vector-store.ts"

/** What {@link createMemoryArchive} is made of. */
export interface MemoryArchiveParts {
  /** Collections, and the records that lie beside them. */
  readonly local: Archive
  readonly registry: Pick<MemoryStore, "listCollections" | "getCollection">
  /** Undefined where there is none: every collection is then imported as LOCAL. */
  readonly elsewhere:
    | { readonly vectors: VectorStore; readonly source: MirrorSource; readonly engine: string }
    | undefined
}

const LIST_ROWS = 100
const FLOAT_BYTES = 4

/** Records are read from and written to where their collection says. */
export function createMemoryArchive({ local, registry, elsewhere }: MemoryArchiveParts): Archive {
  const known = new Map<string, Collection>()
  const moved = new Set<string>()
  const collectionOf = async (scope: CallScope, id: string): Promise<Collection> => {
    const found = known.get(id) ?? (await registry.getCollection(scope, id))
    known.set(id, found)
    return found
  }
  return {
    ...local,
    engine: elsewhere === undefined ? local.engine : `${local.engine}+${elsewhere.engine}`,
    read: async (scope, sink) => {
      await local.read(scope, sink)
      for await (const collection of directCollections(registry, scope)) {
        if (elsewhere === undefined) throw missing(collection.id)
        for await (const records of recordsIn(elsewhere.vectors, scope, collection)) {
          await sink(
            "record",
            records.map((record) => itemOf(collection.id, record)),
          )
        }
      }
    },
    write: async (scope, kind, items) => {
      if (kind === "collection") {
        const fitting = elsewhere === undefined ? items.map((item) => broughtHome(item, moved)) : items
        return local.write(scope, kind, fitting)
      }
      if (elsewhere === undefined) return local.write(scope, kind, items)
      const records = items as readonly ItemOf<"record">[]
      for (const [id, own] of Map.groupBy(records, ({ collection }) => collection)) {
        const collection = await collectionOf(scope, id)
        if (collection.storageMode === "DIRECT") {
          await elsewhere.vectors.write(scope, collection, own.map(vectorRecord))
          continue
        }
        await local.write(scope, kind, own)
        if (collection.storageMode !== "MIRRORED") continue
        await elsewhere.source.owe(
          scope,
          collection,
          own.map((record) => record.id),
        )
      }
    },
    finish: async (scope) => {
      const notes = await local.finish(scope)
      if (moved.size === 0) return notes
      return [
        ...notes,
        `no vector store is configured here: the records of ${[...moved].sort().join(", ")} are kept in the memory store (LOCAL)`,
      ]
    },
  }
}

async function* directCollections(
  registry: MemoryArchiveParts["registry"],
  scope: CallScope,
): AsyncGenerator<Collection> {
  let cursor: readonly string[] | undefined
  do {
    const page = await registry.listCollections(scope, { size: LIST_ROWS, cursor }, undefined)
    yield* page.items.filter(({ storageMode }) => storageMode === "DIRECT")
    cursor = page.next
  } while (cursor !== undefined)
}

async function* recordsIn(
  vectors: VectorStore,
  scope: CallScope,
  collection: Collection,
): AsyncGenerator<readonly MemoryRecord[]> {
  const order = { by: "id", descending: false } as const
  let cursor: readonly string[] | undefined
  do {
    const page = await vectors.list(scope, collection, {
      filter: undefined,
      order,
      parts: ALL_PARTS,
      page: { size: LIST_ROWS, cursor },
    })
    yield page.items
    cursor = page.next
  } while (cursor !== undefined)
}

function missing(id: string): Error {
  return new Error(`the records of collection "${id}" are in a vector store, and none is configured`)
}

function broughtHome(item: Item, moved: Set<string>): Item {
  const collection = item as ItemOf<"collection">
  if (collection.storageMode === "LOCAL") return item
  moved.add(collection.id)
  const quantization = collection.quantization === "SCALAR" ? "NONE" : collection.quantization
  return { ...collection, storageMode: "LOCAL", quantization }
}

function itemOf(collection: string, record: MemoryRecord): ItemOf<"record"> {
  const { id, revision, createTimeMs, updateTimeMs, expireTimeMs } = record
  return {
    collection,
    id,
    text: record.text ?? "",
    metadata: record.metadata ?? {},
    vector: bytesOf(record.vector ?? new Float32Array()),
    revision,
    // Only the registry counts writes.
    writes: 1,
    createTime: createTimeMs,
    updateTime: updateTimeMs,
    expireTime: expireTimeMs ?? null,
  }
}

function vectorRecord(item: ItemOf<"record">): VectorRecord {
  return {
    id: item.id,
    text: item.text,
    vector: floatsOf(item.vector),
    // The service takes nothing but objects.
    metadata: item.metadata as VectorRecord["metadata"],
    revision: item.revision,
    createTimeMs: item.createTime,
    updateTimeMs: item.updateTime,
    expireTimeMs: item.expireTime ?? undefined,
  }
}

function bytesOf(vector: Float32Array): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(vector.length * FLOAT_BYTES))
  for (const [at, component] of vector.entries()) bytes.setFloat32(at * FLOAT_BYTES, component, true)
  return new Uint8Array(bytes.buffer)
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: Math.floor(bytes.byteLength / FLOAT_BYTES) }, (_, at) =>
    view.getFloat32(at * FLOAT_BYTES, true),
  )
}
