/** A key in memory, and the stamps that make tag invalidation cost nothing. */
import type { CacheEntry, CacheKind, Content } from "../../domain/cache/model.ts"
import type { Deque } from "./deque.ts"
import type { HashTable } from "./hash-table.ts"
import type { SortedSet } from "./sorted-set.ts"

/**
 * One version of a tag. Entries hold the stamp itself, so invalidating is turning it stale, and a later entry with the same tag
 * gets a new stamp: an old one can never become valid again.
 */
export interface TagStamp {
  readonly tag: string
  stale: boolean
  /** How many entries hold it; at 0 it is forgotten. */
  holders: number
}

/** The collections a key may hold. */
export type Collection = HashTable | Deque | SortedSet

/** What an entry counts beside its key and content: objects, map slots and links, measured on V8 and rounded up. */
export const ENTRY_OVERHEAD_BYTES = 200

/** What a field, item or member counts beside its content. */
export const ITEM_OVERHEAD_BYTES = 64

/** What entries without tags share. */
export const NO_STAMPS: readonly TagStamp[] = []
const NOTHING: Content = { case: "integer", value: 0n }

/** A key with its content. For a value the content never changes: a new Set makes a new entry. */
export class Entry implements CacheEntry {
  readonly key: string
  readonly kind: CacheKind
  readonly content: Content
  readonly contentType: string
  readonly collection: Collection | undefined
  tags: readonly string[] = []
  stamps: readonly TagStamp[] = NO_STAMPS
  revision = 0n
  expireTimeMs = Number.POSITIVE_INFINITY
  /** What a refresh restarts; Infinity for nothing. */
  ttlMs = Number.POSITIVE_INFINITY
  bytes = 0
  /** Neighbours in the order of use, and the engine's count of uses at the last one. */
  newer: Entry | undefined
  older: Entry | undefined
  usedAt = 0

  constructor(
    key: string,
    kind: CacheKind,
    content: Content = NOTHING,
    contentType = "",
    collection: Collection | undefined = undefined,
  ) {
    this.key = key
    this.kind = kind
    this.content = content
    this.contentType = contentType
    this.collection = collection
  }

  /** Whether it may be read at `nowMs`. */
  isLive(nowMs: number): boolean {
    if (this.expireTimeMs <= nowMs) return false
    for (const stamp of this.stamps) if (stamp.stale) return false
    return true
  }
}
