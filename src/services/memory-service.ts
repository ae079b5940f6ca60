/** MemoryService. */
import { createHash } from "node:crypto"
import type { Clock } from "../domain/kernel/clock.ts"
import { DomainError, invalidField } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import { createCollection } from "../domain/memory/create-collection.ts"
import { type ImportChunk, importRecords } from "../domain/memory/import-records.ts"
import { KnownCollections } from "../domain/memory/known-collections.ts"
import { optimizeCollection } from "../domain/memory/optimize-collection.ts"
import { COLLECTION_FIELDS, type Embedders, type MemoryStore, RECORD_FIELDS } from "../domain/memory/ports.ts"
import { exportRecords, getRecords, listRecords } from "../domain/memory/read-records.ts"
import { searchRecords } from "../domain/memory/search-records.ts"
import { checkText } from "../domain/memory/text.ts"
import { upsertRecords } from "../domain/memory/upsert-records.ts"
import {
  type ExportRecordsRequest,
  type ImportRecordsRequest,
  MemoryService as MemoryServiceDescriptor,
  OptimizePhase,
  RecordView,
} from "../gen/keelplane/v1/memory_service_pb.ts"
import { type Handlers, type Service, service } from "../rpc/handler.ts"
import {
  checkPinned,
  collectionDraft,
  collectionMessage,
  collectionPatch,
  indexStateMessage,
  orderOf,
  partsOf,
  recordDraft,
  recordMessage,
} from "./memory-messages.ts"
import { resultMessage, searchQuery } from "./memory-search-messages.ts"
import type { Pages } from "./paging.ts"

const PAGE = { defaultSize: 100, maxSize: 1000 }

/** What {@link createMemoryService} needs. */
export interface MemoryServiceDeps {
  readonly store: MemoryStore
  readonly embedders: Embedders
  readonly pages: Pages
  readonly clock: Clock
  /** A new time-ordered id for records that come without one. */
  readonly newId: () => string
}

/** MemoryService over a store and embedders. */
export function createMemoryService(deps: MemoryServiceDeps): Service {
  return service(MemoryServiceDescriptor, {
    ...collectionHandlers(deps),
    ...writeHandlers(deps),
    ...readHandlers(deps),
    ...searchHandlers(deps),
  })
}

type MemoryHandlers = Handlers<typeof MemoryServiceDescriptor>

/** Collections and their indexes. */
function collectionHandlers(
  deps: MemoryServiceDeps,
): Pick<
  MemoryHandlers,
  | "createCollection"
  | "getCollection"
  | "listCollections"
  | "updateCollection"
  | "deleteCollection"
  | "optimizeCollection"
> {
  const { store, pages } = deps
  return {
    createCollection: async ({ collection }, ctx) => {
      if (collection === undefined) throw invalidField("collection", "is required")
      return { collection: collectionMessage(await createCollection(deps, ctx, collectionDraft(collection))) }
    },
    getCollection: async (req, ctx) => ({
      collection: collectionMessage(await store.getCollection(ctx, idOf(req))),
    }),
    listCollections: async (req, ctx) => {
      const filter = parseFilter(req.filter, COLLECTION_FIELDS)
      const page = await store.listCollections(ctx, pages.request(ctx, req, PAGE), filter)
      return {
        collections: page.items.map(collectionMessage),
        nextPageToken: pages.token(ctx, req, page.next),
      }
    },
    updateCollection: async (req, ctx) => {
      const patch = collectionPatch(req)
      const id = req.collection?.id ?? ""
      checkText(id, "collection.id")
      checkPatch(patch)
      if ((req.updateMask?.paths.length ?? 0) === 0) {
        const current = await unlessGone(store.getCollection(ctx, id))
        if (current !== undefined) checkPinned(req, current)
      }
      return {
        collection: collectionMessage(await store.updateCollection(ctx, id, patch, req.ifRevisionMatch)),
      }
    },
    deleteCollection: async (req, ctx) => ({
      deletedRecords: BigInt(await store.deleteCollection(ctx, idOf(req), req.ifRevisionMatch)),
    }),
    optimizeCollection: async function* (req, ctx) {
      for await (const progress of optimizeCollection(store, ctx, idOf(req), req.rebuild)) {
        yield {
          phase: OptimizePhase[progress.phase],
          done: BigInt(progress.done),
          total: BigInt(progress.total),
          indexState: indexStateMessage(progress.state),
        }
      }
    },
  }
}

/** Records on their way in and out. */
function writeHandlers(
  deps: MemoryServiceDeps,
): Pick<MemoryHandlers, "upsertRecords" | "importRecords" | "deleteRecords"> {
  const { store } = deps
  return {
    upsertRecords: async (req, ctx) => ({
      receipts: [...(await upsertRecords(deps, ctx, idOf(req), req.records.map(recordDraft)))],
    }),
    importRecords: async (requests, ctx) => {
      const chunks = await ChunkReader.open(requests)
      const summary = await importRecords(deps, ctx, chunks.collectionId, chunks.chunks())
      return {
        written: BigInt(summary.written),
        created: BigInt(summary.created),
        refused: BigInt(summary.refused),
        chunks: BigInt(summary.chunks),
        failures: summary.failures.map((failure) => ({ ...failure, chunk: BigInt(failure.chunk) })),
      }
    },
    deleteRecords: async (req, ctx) => ({
      deleted: BigInt(await store.delete(ctx, idOf(req), selectionOf(req.selection))),
    }),
  }
}

/** Records by id, by filter and in bulk. */
function readHandlers(
  deps: MemoryServiceDeps,
): Pick<MemoryHandlers, "getRecords" | "listRecords" | "countRecords" | "exportRecords"> {
  const { store, pages } = deps
  return {
    getRecords: async (req, ctx) => {
      req.ids.forEach((id, i) => {
        checkText(id, `ids[${i}]`)
      })
      const records = await getRecords(store, ctx, idOf(req), req.ids, partsOf(req.view))
      return { records: records.map(recordMessage) }
    },
    listRecords: async (req, ctx) => {
      const query = {
        filter: parseFilter(req.filter, RECORD_FIELDS),
        order: orderOf(req.orderBy),
        parts: partsOf(req.view),
      }
      const page = await listRecords(store, ctx, idOf(req), query, pages.request(ctx, req, PAGE))
      return { records: page.items.map(recordMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    countRecords: async (req, ctx) => {
      const filter = parseFilter(req.filter, RECORD_FIELDS)
      const collection = await store.getCollection(ctx, idOf(req))
      return { count: BigInt(await store.count(ctx, collection, filter)) }
    },
    exportRecords: async function* (req, ctx) {
      const kind = exportKind(req)
      const cursor = req.resumeToken === "" ? undefined : pages.open(ctx, kind, req.resumeToken)
      const query = {
        filter: parseFilter(req.filter, RECORD_FIELDS),
        parts: partsOf(req.view, RecordView.FULL),
      }
      for await (const chunk of exportRecords(store, ctx, idOf(req), query, cursor)) {
        yield {
          records: chunk.records.map(recordMessage),
          resumeToken: pages.seal(ctx, kind, chunk.cursor),
        }
      }
    },
  }
}

/** Records by likeness. */
function searchHandlers(given: MemoryServiceDeps): Pick<MemoryHandlers, "search" | "batchSearch"> {
  const deps = { ...given, known: new KnownCollections() }
  return {
    search: async (req, ctx) => {
      if (req.query === undefined) throw invalidField("query", "is required")
      const queries = [searchQuery(req.query, "query")]
      let degradedBy: string | undefined
      const [hits] = await searchRecords(
        deps,
        ctx,
        idOf(req),
        queries,
        () => "query",
        (_, store) => {
          degradedBy = store
        },
      )
      return { result: resultMessage(hits ?? [], degradedBy) }
    },
    batchSearch: async (req, ctx) => {
      const path = (i: number): string => `queries[${i}]`
      const queries = req.queries.map((query, i) => searchQuery(query, path(i)))
      const degraded = new Map<number, string>()
      const results = await searchRecords(deps, ctx, idOf(req), queries, path, (i, store) => {
        degraded.set(i, store)
      })
      return { results: results.map((hits, i) => resultMessage(hits, degraded.get(i))) }
    },
  }
}

function idOf(request: { readonly collectionId: string }): string {
  checkText(request.collectionId, "collection_id")
  return request.collectionId
}

/** The update itself says that a collection is gone, or answers a repeated request. */
async function unlessGone<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read
  } catch (error) {
    if (error instanceof DomainError && error.reason === "NOT_FOUND") return undefined
    throw error
  }
}

function checkPatch(patch: ReturnType<typeof collectionPatch>): void {
  checkText(patch.description ?? "", "collection.description")
  for (const [key, value] of Object.entries(patch.labels ?? {})) {
    checkText(key, "collection.labels")
    checkText(value, "collection.labels")
  }
}

function selectionOf(
  selection:
    | { readonly case: "ids"; readonly value: { readonly ids: readonly string[] } }
    | { readonly case: "filter"; readonly value: string }
    | { readonly case: undefined },
): Parameters<MemoryStore["delete"]>[2] {
  if (selection.case === "ids") {
    const { ids } = selection.value
    ids.forEach((id, i) => {
      checkText(id, `ids.ids[${i}]`)
    })
    return { ids }
  }
  const filter = parseFilter(selection.case === "filter" ? selection.value : "", RECORD_FIELDS)
  // A blank filter would mean everything, which nobody deletes by accident here.
  if (filter === undefined)
    throw invalidField("filter", "must not be blank; use `revision > 0` for all records")
  return { filter }
}

/** A resume token goes with everything that decides which records come. */
function exportKind(request: ExportRecordsRequest): string {
  const rest = JSON.stringify([request.collectionId, request.filter])
  return `memory-export:${createHash("sha256").update(rest).digest("base64url")}`
}

/** Reads the stream of an import: the collection from its first message, records from all. */
class ChunkReader {
  readonly collectionId: string
  readonly #first: ImportRecordsRequest
  readonly #rest: AsyncIterator<ImportRecordsRequest>

  private constructor(first: ImportRecordsRequest, rest: AsyncIterator<ImportRecordsRequest>) {
    this.collectionId = idOf(first)
    this.#first = first
    this.#rest = rest
  }

  static async open(requests: AsyncIterable<ImportRecordsRequest>): Promise<ChunkReader> {
    const iterator = requests[Symbol.asyncIterator]()
    const first = await iterator.next()
    if (first.done === true || first.value.collectionId === "") {
      throw invalidField("collection_id", "is required in the first message")
    }
    return new ChunkReader(first.value, iterator)
  }

  async *chunks(): AsyncGenerator<ImportChunk> {
    yield chunkOf(this.#first)
    for (;;) {
      const next = await this.#rest.next()
      if (next.done === true) return
      if (next.value.collectionId !== "" && next.value.collectionId !== this.collectionId) {
        throw invalidField("collection_id", "must be empty or the same in all messages of an import")
      }
      yield chunkOf(next.value)
    }
  }
}

function chunkOf({ records }: ImportRecordsRequest): ImportChunk {
  return { size: records.length, ids: records.map(({ id }) => id), drafts: () => records.map(recordDraft) }
}
