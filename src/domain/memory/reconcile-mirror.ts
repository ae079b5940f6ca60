/** Compares a mirrored collection with its copies and has the differences put right. */
import { DomainError } from "../kernel/errors.ts"
import { type CallScope, parseTenantId, systemScope } from "../kernel/scope.ts"
import { requireLive } from "../kernel/wake-ups.ts"
import type { MirrorSource } from "./mirror.ts"
import { type Collection, ID_ONLY, type MemoryRecord } from "./model.ts"
import type { MemoryStore } from "./ports.ts"
import type { VectorStore } from "./vector-store.ts"

/** What {@link reconcileMirror} found. */
export interface MirrorDifference {
  readonly compared: number
  /** Records whose copy is missing or has another revision, and copies whose record is gone. */
  readonly different: number
}

const PAGE = 1_000
const BY_ID = { filter: undefined, order: { by: "id", descending: false }, parts: ID_ONLY } as const

/**
 * Goes through both sides by id. What differs is owed to the outbox once more instead of being written here, so that the relay, which
 * never works on one collection twice at a time, cannot be overtaken; what was on its way already is brought over twice.
 */
export async function reconcileMirror(
  deps: {
    readonly records: Pick<MemoryStore, "list">
    readonly vectors: Pick<VectorStore, "list">
    readonly source: Pick<MirrorSource, "owe">
  },
  scope: CallScope,
  collection: Collection,
): Promise<MirrorDifference> {
  const truth = new Side(deps.records, scope, collection)
  const copies = new Side(deps.vectors, scope, collection)
  let compared = 0
  let different = 0
  let wrong: string[] = []
  const owe = async () => {
    if (wrong.length > 0) await deps.source.owe(scope, collection, wrong)
    different += wrong.length
    wrong = []
  }
  let record = await truth.next()
  let copy = await copies.next()
  while (record !== undefined || copy !== undefined) {
    const order = compareIds(record, copy)
    if (order !== 0 || record?.revision !== copy?.revision) wrong.push((order <= 0 ? record : copy)?.id ?? "")
    if (wrong.length >= PAGE) await owe()
    compared++
    if (order <= 0) record = await truth.next()
    if (order >= 0) copy = await copies.next()
  }
  await owe()
  return { compared, different }
}

/** What {@link MirrorRounds} works with. */
export interface MirrorRoundsDeps {
  readonly records: Pick<MemoryStore, "list" | "getCollection">
  readonly vectors: Pick<VectorStore, "list">
  readonly source: MirrorSource
}

/** Goes from one mirrored collection to the next, over all tenants, for ever. */
export class MirrorRounds {
  readonly #deps: MirrorRoundsDeps
  #after: string | undefined

  constructor(deps: MirrorRoundsDeps) {
    this.#deps = deps
  }

  /** Compares one collection and answers how much was different. What is away is compared another time. */
  async next(signal: AbortSignal): Promise<number> {
    const found = await this.#deps.source.nextMirrored(systemScope(undefined, signal), this.#after)
    this.#after = found?.ref
    const tenant = found === undefined ? undefined : parseTenantId(found.tenant)
    if (found === undefined || tenant === undefined) return 0
    const scope = systemScope(tenant, signal)
    try {
      const collection = await this.#deps.records.getCollection(scope, found.id)
      return (await reconcileMirror(this.#deps, scope, collection)).different
    } catch (error) {
      if (
        error instanceof DomainError &&
        (error.reason === "NOT_FOUND" || error.reason === "STORE_UNAVAILABLE")
      )
        return 0
      throw error
    }
  }
}

/** Which of the two comes first; one that is not there comes last. */
function compareIds(a: MemoryRecord | undefined, b: MemoryRecord | undefined): number {
  if (a === undefined) return 1
  if (b === undefined) return -1
  return Buffer.compare(Buffer.from(a.id), Buffer.from(b.id))
}

/** One side, a page at a time. */
class Side {
  readonly #store: Pick<MemoryStore, "list">
  readonly #scope: CallScope
  readonly #collection: Collection
  #items: readonly MemoryRecord[] = []
  #at = 0
  #cursor: readonly string[] | undefined
  #isLast = false

  constructor(store: Pick<MemoryStore, "list">, scope: CallScope, collection: Collection) {
    this.#store = store
    this.#scope = scope
    this.#collection = collection
  }

  async next(): Promise<MemoryRecord | undefined> {
    if (this.#at >= this.#items.length && !this.#isLast) {
      requireLive(this.#scope)
      const page = { size: PAGE, cursor: this.#cursor }
      const { items, next } = await this.#store.list(this.#scope, this.#collection, { ...BY_ID, page })
      this.#items = items
      this.#at = 0
      this.#cursor = next
      this.#isLast = next === undefined
    }
    return this.#items[this.#at++]
  }
}
