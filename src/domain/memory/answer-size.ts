/**
 * Keeps answers below what a message may weigh, and decides it before the records are read: gRPC refuses a message over 4 MiB,
 * and a daemon that first reads a thousand texts in order to have them refused dies of a few such calls.
 */
import { DomainError } from "../kernel/errors.ts"
import { structBytes } from "../kernel/json-size.ts"
import type { CallScope } from "../kernel/scope.ts"
import { requireLive } from "../kernel/wake-ups.ts"
import type { Collection, MemoryRecord, RecordParts } from "./model.ts"
import type { MemoryStore } from "./ports.ts"

/** Most that the records of one answer may weigh. Any single record weighs less. */
export const ANSWER_BYTES = 3 * 1024 * 1024

/** Revision, times, scores and the lengths of everything. */
const FRAME_BYTES = 128
/** Records read at once, also from a vector store, whose answers each are a wait, and what they may weigh together. */
const SLICE_RECORDS = 64
const DIRECT_SLICE_RECORDS = 512
const SLICE_BYTES = 1024 * 1024
/** So few records weigh little enough to be read without being weighed first. */
export const FEW_RECORDS = 16
/** Ids whose records are weighed at once. */
const WEIGH_IDS = 1000

/** How many bytes a record takes in an answer besides its content, at most. */
export function frameBytes(id: string): number {
  return FRAME_BYTES + Buffer.byteLength(id)
}

/** How many bytes a record's text, metadata and vector take in an answer. */
export function contentBytes(record: MemoryRecord): number {
  const { text, metadata, vector } = record
  return (
    (text === undefined ? 0 : Buffer.byteLength(text)) +
    (metadata === undefined ? 0 : structBytes(metadata)) +
    (vector?.byteLength ?? 0)
  )
}

/** How many bytes a record takes in an answer, at most. */
export function recordBytes(record: MemoryRecord): number {
  return frameBytes(record.id) + contentBytes(record)
}

/** Whether records with these parts hold more than their ids. */
export function hasContent(parts: RecordParts): boolean {
  return parts.text || parts.metadata || parts.vector
}

/** What is left of one answer. */
export class AnswerBudget {
  readonly #field: string
  readonly #advice: string
  #used = 0

  /** @param field what the caller asked too much with. @param advice what to do instead, as in `ask for fewer ids`. */
  constructor(field: string, advice: string) {
    this.#field = field
    this.#advice = advice
  }

  /** Throws LIMIT_EXCEEDED where `bytes` more would be too many. */
  check(bytes: number): void {
    const value = this.#used + bytes
    if (value <= ANSWER_BYTES) return
    const description = `makes an answer of ${value} bytes or more, at most ${ANSWER_BYTES} allowed; ${this.#advice}`
    throw new DomainError("LIMIT_EXCEEDED", `${this.#field} ${description}`, {
      metadata: { limit: "answer_bytes", value: String(value), maximum: String(ANSWER_BYTES) },
      violations: [{ field: this.#field, description }],
    })
  }

  /** Takes `bytes` off. LIMIT_EXCEEDED. */
  take(bytes: number): void {
    this.check(bytes)
    this.#used += bytes
  }
}

/**
 * The records of `ids` that exist, by id; `ids` says how often each comes in the answer. Where they do not fit into `budget`
 * LIMIT_EXCEEDED comes before they are read, but for a few. Frames are the caller's to take.
 */
export async function loadRecords(
  store: MemoryStore,
  scope: CallScope,
  collection: Collection,
  ids: ReadonlyMap<string, number>,
  parts: RecordParts,
  budget: AnswerBudget,
): Promise<ReadonlyMap<string, MemoryRecord>> {
  const weights = await weigh(store, scope, collection, ids, parts, budget)
  const loaded = new Map<string, MemoryRecord>()
  const most = collection.storageMode === "DIRECT" ? DIRECT_SLICE_RECORDS : SLICE_RECORDS
  for (const slice of slices(weights, most)) {
    requireLive(scope)
    for (const record of await store.get(scope, collection, slice, parts)) {
      budget.take(contentBytes(record) * (ids.get(record.id) ?? 1))
      loaded.set(record.id, record)
    }
  }
  return loaded
}

async function weigh(
  store: MemoryStore,
  scope: CallScope,
  collection: Collection,
  ids: ReadonlyMap<string, number>,
  parts: RecordParts,
  budget: AnswerBudget,
): Promise<ReadonlyMap<string, number>> {
  const all = [...ids.keys()]
  if (!hasContent(parts) || all.length <= FEW_RECORDS) return new Map(all.map((id) => [id, 0]))
  const weights = new Map<string, number>()
  let total = 0
  for (let at = 0; at < all.length; at += WEIGH_IDS) {
    if (at > 0) requireLive(scope)
    for (const [id, bytes] of await store.weigh(scope, collection, all.slice(at, at + WEIGH_IDS), parts)) {
      weights.set(id, bytes)
      total += bytes * (ids.get(id) ?? 1)
    }
    budget.check(total)
  }
  return weights
}

function* slices(weights: ReadonlyMap<string, number>, most: number): Generator<readonly string[]> {
  let slice: string[] = []
  let bytes = 0
  for (const [id, weight] of weights) {
    if (slice.length > 0 && (slice.length >= most || bytes + weight > SLICE_BYTES)) {
      yield slice
      slice = []
      bytes = 0
    }
    slice.push(id)
    bytes += weight
  }
  if (slice.length > 0) yield slice
}
