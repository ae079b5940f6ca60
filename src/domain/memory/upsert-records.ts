/** Writes records: checks them, embeds text where there is no vector, and gives ids and expiry. */
import type { Clock } from "../kernel/clock.ts"
import { DomainError, invalidField } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Collection, RecordDraft, RecordReceipt, RecordWrite } from "./model.ts"
import type { Embedders, MemoryStore } from "./ports.ts"
import { checkMetadata, checkText } from "./text.ts"
import { checkVector } from "./vectors.ts"

/** What {@link upsertRecords} works with. */
export interface UpsertDeps {
  readonly store: MemoryStore
  readonly embedders: Embedders
  readonly clock: Clock
  /** A new time-ordered id. */
  readonly newId: () => string
}

/** Latest expiry that every engine can keep: the end of the year 9999. */
const MAX_TIME_MS = 253_402_300_799_999

/**
 * Writes all records or none. INVALID_FIELD naming `records[i]…` and the id, NOT_FOUND, REVISION_MISMATCH, and what the
 * embedder raises. A repeated request answers its first result even where the collection is gone by now.
 */
export async function upsertRecords(
  deps: UpsertDeps,
  scope: CallScope,
  collectionId: string,
  drafts: readonly RecordDraft[],
): Promise<readonly RecordReceipt[]> {
  let collection: Collection
  let writes: readonly RecordWrite[]
  try {
    collection = await deps.store.getCollection(scope, collectionId)
    writes = await prepare(deps, scope, collection, drafts)
  } catch (error) {
    if (scope.idempotency === undefined) throw error
    return deps.store.replayUpsert(scope, error)
  }
  return deps.store.upsert(scope, collection, writes)
}

async function prepare(
  deps: UpsertDeps,
  scope: CallScope,
  collection: Collection,
  drafts: readonly RecordDraft[],
): Promise<readonly RecordWrite[]> {
  const ids = new Set<string>()
  drafts.forEach((draft, i) => {
    checkDraft(draft, i)
    if (draft.id !== "" && ids.has(draft.id)) {
      throw invalidField(`records[${i}].id`, `the id "${draft.id}" comes twice`)
    }
    ids.add(draft.id)
  })
  const vectors = await vectorsOf(deps, scope, collection, drafts)
  const now = deps.clock.now()
  return drafts.map((draft, i) => {
    const vector = vectors[i] ?? new Float32Array()
    checkVector(vector, collection, `records[${i}].vector`, `record "${draft.id}"`)
    return {
      id: draft.id === "" ? deps.newId() : draft.id,
      text: draft.text,
      vector,
      metadata: draft.metadata,
      expireTimeMs: expiryOf(draft, collection, now, i),
      ifRevisionMatch: draft.ifRevisionMatch,
    }
  })
}

function checkDraft(draft: RecordDraft, i: number): void {
  checkText(draft.id, `records[${i}].id`)
  checkText(draft.text, `records[${i}].text`)
  checkMetadata(draft.metadata, `records[${i}].metadata`)
}

async function vectorsOf(
  deps: UpsertDeps,
  scope: CallScope,
  collection: Collection,
  drafts: readonly RecordDraft[],
): Promise<readonly (Float32Array | undefined)[]> {
  const texts: string[] = []
  drafts.forEach((draft, i) => {
    if (draft.vector !== undefined) return
    if (collection.embedder === "") {
      throw invalidField(
        `records[${i}].vector`,
        `record "${draft.id}": is required, for the collection has no embedder`,
      )
    }
    if (draft.text === "") {
      throw invalidField(`records[${i}].text`, `record "${draft.id}": a text or a vector is required`)
    }
    texts.push(draft.text)
  })
  if (texts.length === 0) return drafts.map((draft) => draft.vector)
  const made = (await embed(deps.embedders, scope, collection, texts)).values()
  return drafts.map((draft) => draft.vector ?? made.next().value)
}

/** Embeds texts with the collection's embedder; FAILED_PRECONDITION where it is no longer configured. */
export async function embed(
  embedders: Embedders,
  scope: CallScope,
  collection: Collection,
  texts: readonly string[],
): Promise<readonly Float32Array[]> {
  const embedder = embedders.get(collection.embedder)
  if (embedder !== undefined && embedder.dimension === collection.dimension) {
    return embedder.embed(scope, texts)
  }
  const state = embedder === undefined ? "embedder-missing" : "embedder-dimension-changed"
  throw new DomainError(
    "FAILED_PRECONDITION",
    `collection "${collection.id}" is pinned to embedder "${collection.embedder}" with dimension ` +
      `${collection.dimension}, which is not configured; configure it or send vectors`,
    { metadata: { resource: "collection", name: collection.id, state } },
  )
}

function expiryOf(draft: RecordDraft, collection: Collection, now: number, i: number): number | undefined {
  const { expiration } = draft
  if (expiration === undefined) {
    return collection.defaultTtlMs === undefined ? undefined : now + collection.defaultTtlMs
  }
  if (expiration.kind === "ttl") return now + expiration.ttlMs
  if (expiration.timeMs < 0 || expiration.timeMs > MAX_TIME_MS) {
    throw invalidField(`records[${i}].expire_time`, "must lie in the years 1970 to 9999")
  }
  return expiration.timeMs
}
